/* Where an image comes from, as a statement that other tools read: in-toto Statement v1 with SLSA provenance v1. */
#ifndef IMAGE_PROVENANCE_H
#define IMAGE_PROVENANCE_H

#include "convert.h"

/* Of a resolved and loaded source. NULL: no digest names it (a directory). The same source, options and builder give the
 * same text: no clock, no host, no user. uuid: the new image's. Else returns new. */
char *img_provenance(const struct img_build_opts *o, const struct img_source *src, const uint8_t uuid[16],
		     int64_t time);

#endif
