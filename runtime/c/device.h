/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * How a bundle drives a device.
 *
 * The plan of a device bundle runs on the host and gives addresses of the device to its kernels. The code of the kernels lies in the
 * library as a description (pw_device_blob). What a vendor's driver is asked for is one table, pw_device_api: the runtime has one for
 * each driver that it knows, and a caller of load may give another, as an emulator does.
 */
#ifndef PW_DEVICE_H
#define PW_DEVICE_H

#include <stddef.h>
#include <stdint.h>

/* ---- the description of device code; all numbers little-endian, all offsets from its first byte ---- */

#define PW_DEVICE_MAGIC "PWDEV\0\0\1"

/* Most parameters of a kernel: addresses, numbers, status and launch. */
#define PW_DEVICE_PARAMS 256

/* Drivers, by the table that speaks to them. */
enum pw_device_driver {
  PW_DRIVER_CUDA = 1,
  PW_DRIVER_SOURCE = 2 /* the library has its own table, pw_source_driver: kernels were compiled with it by a vendor's compiler */
};

enum { PW_DEVICE_EXACT = 1 /* the code runs on this capability and on no later one */ };
enum { PW_KERNEL_ROW = 1 /* all groups are launched in x */ };

typedef struct {
  uint8_t magic[8];
  uint64_t bytes;       /* of the whole description */
  uint32_t driver;      /* enum pw_device_driver */
  uint32_t capability;  /* ten times the major and the minor version that code is for */
  uint32_t flags;       /* PW_DEVICE_... */
  uint32_t version;     /* of the driver's interface that the code needs at least, as the driver counts */
  uint32_t images, image_at;
  uint32_t kernels, kernel_at;
  uint32_t name_at, reserved; /* what the code is for, a closed text */
} pw_device_header;

typedef struct {
  uint64_t at, bytes; /* closed by a zero that is counted */
} pw_device_image;

typedef struct {
  uint32_t name_at;  /* a closed text */
  uint32_t image;    /* where it is */
  uint32_t group;    /* lanes */
  uint32_t dynamic;  /* bytes of the group's memory that the launch asks for */
  uint32_t flags;    /* PW_KERNEL_... */
  uint32_t buffers, scalars, reserved;
} pw_device_kernel;

/* What the model object of a device bundle defines besides those of pw_plan.h (hidden). */
#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif
extern const uint8_t pw_device_blob[];

/* ---- what plans of device bundles call besides pw_plan.h; addresses of buffers are the device's ---- */

struct pw_session;

/* Runs kernel number `kernel` of the description. As pw_rt_launch; the launch may still run when this returns. */
int32_t pw_rt_device_launch(struct pw_session *ctx, int32_t kernel, void *const *bufs, const int64_t *syms, const int64_t *grid,
                            int32_t origin);
/* The number of `bytes` (1, 4 or 8) bytes at an address, zero-extended; 0 after an error. */
int64_t pw_rt_device_get(struct pw_session *ctx, const void *at, int32_t bytes);
/* Writes such a number. */
void pw_rt_device_put(struct pw_session *ctx, void *at, int64_t value, int32_t bytes);
void pw_rt_device_copy(struct pw_session *ctx, void *to, const void *from, int64_t bytes);
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

/* ---- a driver ---- */

/* One launch. Every parameter is 8 bytes: an address or a number. */
typedef struct {
  uint32_t grid[3], group, dynamic, params;
  const uint64_t *param;
} pw_device_launch;

/*
 * Calls return a pw_status. One that fails leaves a text that error() returns until the next call of the same thread's device. Between
 * enter and leave the calling thread uses the device; what a session does, it does in order on its stream.
 */
typedef struct pw_device_api {
  uint32_t size; /* sizeof(pw_device_api) */
  void *user;
  /* Opens device number `ordinal` for code of that header. The text of a failure goes to `message`, of `room` bytes. */
  int32_t (*open)(void *user, const pw_device_header *code, int32_t ordinal, void **device, char *message, size_t room);
  void (*close)(void *device);
  int32_t (*enter)(void *device);
  void (*leave)(void *device);
  const char *(*error)(void *device);
  int32_t (*memory)(void *device, uint64_t *free, uint64_t *total);
  int32_t (*alloc)(void *device, uint64_t bytes, uint64_t *address);
  void (*release)(void *device, uint64_t address);
  int32_t (*stream)(void *device, void **stream);
  void (*end_stream)(void *device, void *stream);
  int32_t (*copy_in)(void *device, void *stream, uint64_t to, const void *from, uint64_t bytes);
  /* The bytes are there when it returns. */
  int32_t (*copy_out)(void *device, void *stream, void *to, uint64_t from, uint64_t bytes);
  int32_t (*copy)(void *device, void *stream, uint64_t to, uint64_t from, uint64_t bytes);
  int32_t (*image)(void *device, const char *text, uint64_t bytes, void **image);
  void (*drop_image)(void *device, void *image);
  int32_t (*kernel)(void *device, void *image, const char *name, uint32_t dynamic, void **kernel);
  int32_t (*launch)(void *device, void *stream, void *kernel, const pw_device_launch *launch);
  int32_t (*sync)(void *device, void *stream);
  /* Launches and copies as one: what the stream is given after `record` does not run, `recorded` ends that and gives it a handle, and
   * `replay` runs it. All four are null where the driver has none. */
  int32_t (*record)(void *device, void *stream);
  int32_t (*recorded)(void *device, void *stream, void **graph);
  int32_t (*replay)(void *device, void *stream, void *graph);
  void (*drop_graph)(void *device, void *graph);
} pw_device_api;

/* Of libraries whose kernels a vendor's compiler made; absent from all others. */
#if defined(__GNUC__)
/* Not const: compilers of device code make a constant of the device's own of what is, with the host's functions in it. */
extern pw_device_api pw_source_driver __attribute__((weak, visibility("hidden")));
#endif

#endif
