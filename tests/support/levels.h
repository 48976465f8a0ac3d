/* levels.h: the instruction set levels by name, for tests that go through all of them. */
#ifndef LEVELS_H
#define LEVELS_H

#include "device/device.h"

static const char *const test_levels[] = {
#define LEVEL(id, name) #name,
#include "device/cpu/level.def"
#undef LEVEL
};

/* This machine and this build have it. */
static inline bool test_level_present(const char *level) {
  device *d = NULL;
  const device_ops *ops = device_find("cpu");
  bool ok = !ops->open(&d, &(device_params){.n_threads = 1, .level = level}, NULL);
  if (ok) ops->close(d);
  return ok;
}

#endif
