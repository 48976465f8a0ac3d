/* tandem inspect: what a GGUF file holds. Values are shown as they are stored; what they mean is not known here. */
#include "cli/cli.h"

#include "gguf/gguf.h"
#include "quant/quant.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_ELEMENTS = 8, SHOWN_BYTES = 200 };

typedef struct totals {
  uint64_t n_values, n_bytes;
  uint64_t by_type_tensors[QUANT_TYPE_END], by_type_bytes[QUANT_TYPE_END];
} totals;

static totals count_tensors(const gguf *g) {
  totals t = {0};
  for (size_t i = 0; i < gguf_n_tensors(g); i++) {
    const gguf_tensor *x = gguf_tensor_at(g, i);
    uint64_t n = 1;
    for (int d = 0; d < 4; d++) n *= (uint64_t)x->dims[d]; /* products were checked when the file was opened */
    t.n_values += n;
    t.n_bytes += x->n_bytes;
    if ((unsigned)x->type >= QUANT_TYPE_END) continue;
    t.by_type_tensors[x->type]++;
    t.by_type_bytes[x->type] += x->n_bytes;
  }
  return t;
}

/* Name of a tensor's type; an id this build does not know is shown as a number. */
static const char *type_name(quant_type type, bool panels, char out[24]) {
  const quant_info *info = quant_find(type);
  if (info && panels) snprintf(out, 24, "%s panels", info->name);
  if (info) return panels ? out : info->name;
  snprintf(out, 24, "type %d", (int)type);
  return out;
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

static void print_string(gguf_string s) {
  char shown[4 * SHOWN_BYTES];
  text_escape(shown, sizeof shown, s.s, s.n < SHOWN_BYTES ? s.n : SHOWN_BYTES);
  printf("\"%s\"", shown);
  if (s.n > SHOWN_BYTES) printf("... (%zu bytes)", s.n);
}

static void print_element(const gguf_key *k, uint64_t i, uint64_t *at) {
  int64_t whole;
  double number;
  bool yes;
  gguf_string s;
  if (k->element == GGUF_STRING) {
    bool found = k->type == GGUF_ARRAY ? gguf_next_string(k, at, &s) : gguf_string_value(k, &s);
    if (found) print_string(s);
  } else if (k->element == GGUF_BOOL && gguf_bool(k, i, &yes)) {
    printf("%s", yes ? "true" : "false");
  } else if (gguf_int(k, i, &whole)) {
    printf("%" PRId64, whole);
  } else if (gguf_double(k, i, &number)) {
    /* As short as a float allows: 1e-06 and not 9.99999997e-07. */
    char shown[32];
    snprintf(shown, sizeof shown, "%.7g", number);
    printf(k->element == GGUF_F32 && (float)strtod(shown, NULL) == (float)number ? "%.7g" : "%.17g", number);
  }
}

static void print_key(const gguf_key *k) {
  char name[160], type[40];
  uint64_t at = 0, n = k->n < SHOWN_ELEMENTS ? k->n : SHOWN_ELEMENTS;
  text_escape(name, sizeof name, k->name, strlen(k->name));
  snprintf(type, sizeof type, "%s", gguf_type_name(k->element));
  if (k->type == GGUF_ARRAY) snprintf(type, sizeof type, "%s[%" PRIu64 "]", gguf_type_name(k->element), k->n);
  printf("  %-44s %-12s ", name, type);
  if (k->type != GGUF_ARRAY) {
    print_element(k, 0, &at);
    printf("\n");
    return;
  }
  for (uint64_t i = 0; i < n; i++) {
    printf(i ? ", " : "[");
    print_element(k, i, &at);
  }
  printf(n == 0 ? "[]\n" : n < k->n ? ", ...]\n" : "]\n");
}

static void print_tensor(const gguf_tensor *t) {
  char name[160], shape[100], size[32], unknown[24];
  int used = 0;
  text_escape(name, sizeof name, t->name, strlen(t->name));
  shape[0] = 0;
  for (int d = 0; d < t->n_dims; d++)
    used += snprintf(shape + used, sizeof shape - (size_t)used, "%s%" PRId64, d ? " x " : "", t->dims[d]);
  cli_size_text(size, t->n_bytes);
  printf("  %-44s %-11s %-24s %12s  at %" PRIu64 "\n", name, type_name(t->type, t->panels, unknown), shape, size, t->offset);
}

static void write_text(const gguf *g, const cli_options *o) {
  totals t = count_tensors(g);
  char size[32], unknown[24];
  cli_size_text(size, gguf_file_bytes(g));
  printf("%s: GGUF version %d, %s", o->model, gguf_version(g), size);
  if (gguf_n_files(g) > 1) printf(" in %d files", gguf_n_files(g));
  printf(", alignment %" PRIu64 "\n\n%zu keys\n", gguf_alignment(g), gguf_n_keys(g));
  for (size_t i = 0; i < gguf_n_keys(g); i++) print_key(gguf_key_at(g, i));
  printf("\n%zu tensors\n", gguf_n_tensors(g));
  for (size_t i = 0; i < gguf_n_tensors(g); i++) print_tensor(gguf_tensor_at(g, i));
  cli_size_text(size, t.n_bytes);
  printf("\ntotal %" PRIu64 " values, %s\n", t.n_values, size);
  for (int i = 0; i < QUANT_TYPE_END; i++) {
    if (!t.by_type_tensors[i]) continue;
    cli_size_text(size, t.by_type_bytes[i]);
    printf("  %-8s %5" PRIu64 " tensors %12s\n", type_name((quant_type)i, false, unknown), t.by_type_tensors[i], size);
  }
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void json_element(json *j, const char *key, const gguf_key *k, uint64_t i, uint64_t *at) {
  int64_t whole;
  double number;
  bool yes;
  gguf_string s;
  if (k->element == GGUF_STRING) {
    bool found = k->type == GGUF_ARRAY ? gguf_next_string(k, at, &s) : gguf_string_value(k, &s);
    if (found)
      json_put_string(j, key, s.s, s.n);
    else
      json_put_null(j, key);
  } else if (k->element == GGUF_BOOL && gguf_bool(k, i, &yes))
    json_put_bool(j, key, yes);
  else if (gguf_int(k, i, &whole))
    json_put_int(j, key, whole);
  else if (gguf_double(k, i, &number))
    json_put_double(j, key, number);
  else
    json_put_null(j, key);
}

static void json_key(json *j, const gguf_key *k) {
  const char *type = gguf_type_name(k->type), *element = gguf_type_name(k->element);
  uint64_t at = 0;
  json_put_object(j, NULL);
  json_put_string(j, "name", k->name, strlen(k->name));
  json_put_string(j, "type", type, strlen(type));
  if (k->type == GGUF_ARRAY) {
    json_put_string(j, "element", element, strlen(element));
    json_put_uint(j, "n", k->n);
    json_put_array(j, "value"); /* its beginning */
    for (uint64_t i = 0; i < k->n && i < SHOWN_ELEMENTS; i++) json_element(j, NULL, k, i, &at);
    json_put_end_array(j);
  } else
    json_element(j, "value", k, 0, &at);
  json_put_end_object(j);
}

static void json_tensor(json *j, const gguf_tensor *t) {
  char unknown[24];
  const char *type = type_name(t->type, false, unknown);
  json_put_object(j, NULL);
  json_put_string(j, "name", t->name, strlen(t->name));
  json_put_string(j, "type", type, strlen(type));
  json_put_bool(j, "panels", t->panels);
  json_put_array(j, "shape");
  for (int d = 0; d < t->n_dims; d++) json_put_int(j, NULL, t->dims[d]);
  json_put_end_array(j);
  json_put_uint(j, "bytes", t->n_bytes);
  json_put_uint(j, "offset", t->offset);
  json_put_int(j, "file", t->i_file);
  json_put_end_object(j);
}

static status write_json(const gguf *g, const cli_options *o, error *err) {
  totals t = count_tensors(g);
  json j;
  json_open(&j, true, err);
  json_put_object(&j, NULL);
  json_put_string(&j, "file", o->model, strlen(o->model));
  json_put_int(&j, "version", gguf_version(g));
  json_put_int(&j, "files", gguf_n_files(g));
  json_put_uint(&j, "bytes", gguf_file_bytes(g));
  json_put_uint(&j, "alignment", gguf_alignment(g));
  json_put_array(&j, "keys");
  for (size_t i = 0; i < gguf_n_keys(g); i++) json_key(&j, gguf_key_at(g, i));
  json_put_end_array(&j);
  json_put_array(&j, "tensors");
  for (size_t i = 0; i < gguf_n_tensors(g); i++) json_tensor(&j, gguf_tensor_at(g, i));
  json_put_end_array(&j);
  json_put_object(&j, "total");
  json_put_uint(&j, "values", t.n_values);
  json_put_uint(&j, "bytes", t.n_bytes);
  json_put_end_object(&j);
  json_put_end_object(&j);
  return cli_json_out(&j);
}

status cli_inspect(const cli_options *o, error *err) {
  gguf *g = NULL;
  status st = TANDEM_OK;
  TRY(gguf_open(&g, o->model, err));
  if (o->json)
    st = write_json(g, o, err);
  else
    write_text(g, o);
  gguf_close(g);
  return st;
}
