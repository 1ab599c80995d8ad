/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Runs the fake model by its typed header. */
#include "fake.h"
#include "fake.h"

int main(int argc, char **argv) {
  static const float x[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, cache[6] = {0, 1, 2, 3, 4, 5};
  static const int64_t index[2] = {2, 0}, mode[1] = {0}, bad[2] = {2, 9};
  float y[8], next[12];
  int64_t twice[1];
  pw_status status;
  fake_model m;
  if (argc < 2 || fake_load(&m, argv[1], NULL) != PW_OK) return printf("load: %s\n", fake_error(&m)), 1;
  if (fake_run(&m, 3, 2, 1, x, index, cache, mode, y, sizeof y, next, sizeof next, twice) != PW_OK)
    return printf("run: %s\n", fake_error(&m)), 1;
  printf("y = %g .. %g, %d; %d of %d\n", (double)y[0], (double)y[7], (int)m.out[fake_out_cache_out].dims[1], (int)twice[0],
         (int)fake_outputs);
  if (fake_run(&m, 3, 2, 1, x, index, cache, mode, NULL, 0, NULL, 0, NULL) != PW_OK) return 1;
  printf("kept %g\n", (double)((const float *)m.out[fake_out_y].data)[7]);
  status = fake_run(&m, 3, 2, 1, x, bad, cache, mode, y, sizeof y, next, sizeof next, twice);
  printf("%d: %s\n", (int)status, fake_error(&m));
  fake_unload(&m);
  status = fake_load(&m, "/no/such/bundle", NULL);
  printf("%d: %s\n", (int)status, fake_error(&m)[0] ? "text" : "none");
  fake_unload(&m);
  return 0;
}
