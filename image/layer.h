/* The tar of one layer: its entries into a log, the content of its files into blocks. */
#ifndef IMAGE_LAYER_H
#define IMAGE_LAYER_H

#include "blocks.h"
#include "stream.h"
#include "tree.h"

struct img_layer_reader {
	struct img_stream *stream;
	struct img_shadow *newer; /* files hidden by it are not stored */
	struct img_blocks *blocks;
	struct img_budget *budget; /* of the whole image */
	const struct vl_progress *progress;
	uint64_t done_before, total; /* of all layers, for the progress; total 0 = unknown */
};
/* Fills log (empty before). Content that `newer` hides has file->stored = false. */
int img_layer_read(const struct img_layer_reader *in, struct img_log *log, struct vl_err *err);
/* The same layer once more, for the files of log that are `needed`. */
int img_layer_refill(const struct img_layer_reader *in, const struct img_log *log, struct vl_err *err);

#endif
