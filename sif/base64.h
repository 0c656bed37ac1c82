/* base64 of RFC 4648, strict: no white space, no stray bits, padding as it must be. */
#ifndef SIF_BASE64_H
#define SIF_BASE64_H

#include <vial/base.h>

char *sif_base64(const void *p, size_t n, bool padded); /* returns new */
/* Either alphabet, padded. Returns new memory with a NUL behind the data. -EINVAL. */
int sif_unbase64(const char *s, size_t n, uint8_t **ret, size_t *ret_len);

#endif
