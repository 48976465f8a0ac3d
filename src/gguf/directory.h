/* directory.h: what the files of this folder share: the keys and tensor records of one file, and tables of names. */
#ifndef GGUF_DIRECTORY_H
#define GGUF_DIRECTORY_H

#include "gguf/gguf.h"

enum { GGUF_ALIGNMENT = 32, GGUF_ALIGNMENT_MIN = 8, GGUF_ALIGNMENT_MAX = 1 << 20, GGUF_NAME_SHOWN = 128 };

/* Finds records by name. A record begins with its name: `const char *name`. */
typedef struct gguf_table {
  uint32_t *slots;  /* index of the record + 1, or 0; owned */
  size_t n_slots;   /* a power of two */
  uint64_t seed;    /* drawn for each table, so that no file can be made of names that collide */
} gguf_table;

/* Fills an empty table with n records of `size` bytes. *duplicate is the first record whose name was seen before, n if
 * there is none. */
status gguf_table_build(gguf_table *t, const void *records, size_t size, size_t n, size_t *duplicate, error *err);
/* Index of the record of that name, SIZE_MAX if there is none. */
size_t gguf_table_find(const gguf_table *t, const void *records, size_t size, const char *name);

/* Keys and tensors of one file. The arrays are owned, the names live in the arena given to gguf_directory_read, values and
 * tensor bytes in the file. */
typedef struct gguf_directory {
  int version;
  uint64_t alignment;
  gguf_key *keys;
  size_t n_keys;
  gguf_table table;     /* of the keys */
  gguf_tensor *tensors; /* placed: offsets are those of the file, and inside it */
  size_t n_tensors;
} gguf_directory;

/* Reads and checks everything up to the first tensor byte. Errors do not name the file. On failure d may be half made. */
status gguf_directory_read(gguf_directory *d, const os_file *file, int i_file, arena *names, error *err);
void gguf_directory_close(gguf_directory *d);
/* The error of a tensor whose name was seen before. */
status gguf_fail_duplicate(const gguf_tensor *t, error *err);

/* Bytes of one element of a number or bool; of a string the least possible; 0 for an array. */
size_t gguf_type_bytes(gguf_type type);

/* Numbers in files are little-endian and unaligned. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are copied as they are");
static inline uint32_t gguf_load_u32(const uint8_t *p) { uint32_t v; __builtin_memcpy(&v, p, sizeof v); return v; }
static inline uint64_t gguf_load_u64(const uint8_t *p) { uint64_t v; __builtin_memcpy(&v, p, sizeof v); return v; }

#endif
