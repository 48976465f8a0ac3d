/* gguf: bytes <-> named keys and tensors. Reads versions 2 and 3 (split files too), writes version 3.
 *
 * Owns the mapped files and the directory. Every count, length, type, offset and product is checked before it is used,
 * against the limits of spec and file: what gguf_open accepts can be read without further checks. Does not know what a
 * key means (but for general.alignment and split.*) or what a model needs. Errors name the key or tensor and the byte
 * offset, and begin with the file's name. A gguf is constant after open: any thread may read. */
#ifndef GGUF_H
#define GGUF_H

#include "base/base.h"
#include "quant/quant.h"

typedef enum gguf_type {
  GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64,
  GGUF_TYPE_END
} gguf_type;

const char *gguf_type_name(gguf_type type); /* "u32"; "?" if it is none */

typedef struct gguf_string {
  const char *s; /* not terminated */
  size_t n;
} gguf_string;

typedef struct gguf_key {
  const char *name;    /* terminated; owned by the gguf */
  gguf_type type;      /* of the value */
  gguf_type element;   /* of an array's elements, else = type */
  uint64_t n;          /* number of elements; 1 for a scalar */
  uint64_t n_bytes;    /* of the value in the file */
  const uint8_t *value;/* in the file, unaligned, little-endian; strings: u64 length and bytes each */
  uint64_t offset;     /* of the key's record in its file, for messages */
} gguf_key;

typedef struct gguf_tensor {
  const char *name;    /* terminated; owned by the gguf */
  int n_dims;          /* 1..4 */
  int64_t dims[4];     /* fastest first; 1 beyond n_dims */
  quant_type type;     /* an id with a row in quant_table, or one unknown to this build: then n_bytes is 0 */
  bool panels;         /* rows lie 16 side by side, as a device keeps them (GGUF_PANELS) */
  uint64_t offset;     /* of the data in its file */
  uint64_t n_bytes;
  uint64_t info_offset;/* of the tensor's record in its file, for messages */
  int i_file;          /* which part of a split model */
} gguf_tensor;

/* Ids of our own: those of types whose rows lie in panels, the layout of device/cpu/mm.h in its version `tandem.panels`. As many bytes
 * as in rows; the number of rows is a multiple of 16. Other programs refuse such an id. */
enum { GGUF_PANELS = 1 << 16, GGUF_PANEL_ROWS = 16 };

typedef struct gguf gguf;

/* Opens path, and all parts if it is the first part of a split model. */
status gguf_open(gguf **g, const char *path, error *err);
/* The same from memory, which must outlive the gguf (for tests and fuzzing). Never a split model. */
status gguf_open_memory(gguf **g, const void *bytes, size_t n, error *err);
void gguf_close(gguf *g); /* NULL is allowed */

const char *gguf_path(const gguf *g); /* of the first part */
int gguf_version(const gguf *g);
int gguf_n_files(const gguf *g);
uint64_t gguf_file_bytes(const gguf *g); /* all parts */
uint64_t gguf_alignment(const gguf *g);
size_t gguf_n_keys(const gguf *g);
const gguf_key *gguf_key_at(const gguf *g, size_t i);
const gguf_key *gguf_find_key(const gguf *g, const char *name);       /* NULL: none; hashed */
size_t gguf_n_tensors(const gguf *g);
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i);
const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name); /* NULL: none; hashed */
/* The tensor's bytes. Counts as a read for fault injection, so it can fail. */
status gguf_tensor_bytes(const gguf *g, const gguf_tensor *t, const uint8_t **bytes, error *err);
/* Advice for loading: the tensor's pages will be needed, or not again. */
void gguf_will_need(const gguf *g, const gguf_tensor *t);
void gguf_dont_need(const gguf *g, const gguf_tensor *t);
/* The same for n of its bytes from `first` on. */
void gguf_dont_need_part(const gguf *g, const gguf_tensor *t, uint64_t first, uint64_t n);
/* Whether bytes of the file can stay mapped after it is closed: it is one file, not a split one or memory. */
bool gguf_mappable(const gguf *g);
/* Maps n of its bytes over a region of the caller's: os_mapping_open. */
status gguf_map(const gguf *g, uint64_t offset, size_t n, void *at, os_mapping **m, error *err);
/* TANDEM_ERROR_IO if a file became shorter while it was read: what was read is nothing. */
status gguf_check(const gguf *g, error *err);
size_t gguf_memory(const gguf *g); /* bytes of the directory */

/* Value of a scalar key or of element i of an array, if its type converts without loss: integers to any integer that
 * fits, floats to double, bool from bool (and, for arrays, from i32 or u32). False: out of range i or other type. */
bool gguf_int(const gguf_key *k, uint64_t i, int64_t *v);
bool gguf_double(const gguf_key *k, uint64_t i, double *v); /* f32, f64 and integers */
bool gguf_bool(const gguf_key *k, uint64_t i, bool *v);
/* A scalar string. For arrays of strings walk them in order with gguf_next_string, starting from *at = 0. */
bool gguf_string_value(const gguf_key *k, gguf_string *v);
bool gguf_next_string(const gguf_key *k, uint64_t *at, gguf_string *v);

/* ---- write.c ----------------------------------------------------------------------------------------------------- */

/* Builds a version 3 file in the order of the calls; keys first, then tensors. The first failure is kept and returned by
 * gguf_writer_save; later calls then do nothing. Tensor bytes are borrowed until gguf_writer_bytes or _save. */
typedef struct gguf_writer gguf_writer;
status gguf_writer_open(gguf_writer **w, error *err);
void gguf_writer_close(gguf_writer *w); /* NULL is allowed */
void gguf_write_int(gguf_writer *w, const char *key, gguf_type type, int64_t v); /* any integer type or BOOL */
void gguf_write_float(gguf_writer *w, const char *key, gguf_type type, double v);/* F32 or F64 */
void gguf_write_string(gguf_writer *w, const char *key, const char *s, size_t n);
void gguf_write_array(gguf_writer *w, const char *key, gguf_type element, const void *values, uint64_t n); /* numbers */
void gguf_write_strings(gguf_writer *w, const char *key, const gguf_string *values, uint64_t n);
void gguf_write_key(gguf_writer *w, const gguf_key *k); /* copies a key as it is */
void gguf_write_tensor(gguf_writer *w, const char *name, quant_type type, int n_dims, const int64_t *dims, const void *bytes);
/* The same whose rows lie in panels. */
void gguf_write_panels(gguf_writer *w, const char *name, quant_type type, int n_dims, const int64_t *dims, const void *bytes);
/* The whole file as bytes (owned by the writer), or to a path (through a temporary file). */
status gguf_writer_bytes(gguf_writer *w, const uint8_t **bytes, size_t *n, error *err);
status gguf_writer_save(gguf_writer *w, const char *path, error *err);
/* Piece by piece, for what does not fit the memory: tensors were announced with bytes NULL; now come those bytes in the same order, in
 * pieces that end where a tensor ends. Without commit, which wants all of them, closing the writer leaves what was at path. */
status gguf_writer_begin(gguf_writer *w, const char *path, error *err);
status gguf_writer_add(gguf_writer *w, const void *bytes, size_t n, error *err);
status gguf_writer_commit(gguf_writer *w, error *err);

#endif
