/* device: the table of devices. A device is a row; nothing here knows how one works. */
#include <string.h>

#include "device/cpu/cpu.h"

const device_ops *const device_table[] = {&cpu_device_ops};
const int device_count = (int)COUNT_OF(device_table);

const device_ops *device_find(const char *name) {
  for (int i = 0; name && i < device_count; i++)
    if (!strcmp(device_table[i]->name, name)) return device_table[i];
  return NULL;
}
