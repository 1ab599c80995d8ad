/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Prints where somebody speaks: `speech BUNDLE SOUND`, SOUND being rows of 576 floats as models/README.md describes them. */
#include <stdio.h>
#include <stdlib.h>

#include "model.h"

enum { ROW = 576, MOST = 8192 };

int main(int argc, char **argv) {
  static const char bar[] = "########################################";
  float state[128] = {0};
  float *sound = malloc(sizeof(float) * ROW * MOST), *speech = malloc(sizeof(float) * MOST);
  FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
  int64_t i, rows = file && sound && speech ? (int64_t)fread(sound, sizeof(float) * ROW, MOST, file) : 0;
  model_model vad;
  if (rows == 0) {
    fprintf(stderr, "usage: speech BUNDLE SOUND\n");
    return 2;
  }
  if (model_load(&vad, argv[1], NULL) != PW_OK ||
      model_run(&vad, rows, sound, state, state, speech, sizeof(float) * MOST, NULL, NULL) != PW_OK) {
    fprintf(stderr, "%s\n", model_error(&vad));
    model_unload(&vad);
    return 1;
  }
  for (i = 0; i < rows; i++) printf("%5.2f s %.9g %.*s\n", (double)i * 0.032, (double)speech[i], (int)(speech[i] * 40), bar);
  model_unload(&vad);
  fclose(file), free(sound), free(speech);
  return 0;
}
