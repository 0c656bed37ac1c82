/* Work on outside data in a process of its own, without privileges: its death is an error message here, and a signal to
 * us ends it. */
#ifndef IMAGE_CHILD_H
#define IMAGE_CHILD_H

#include <vial/base.h>

#define IMG_RESULT_MAX 1024 /* bytes of a result or of what was found: they travel as one message */

struct img_child {
	const char *name;        /* "converting": for "the converting process died" */
	const char *interrupted; /* what a signal leaves behind: "nothing was written" */
	/* In the child, which has INT, TERM and HUP blocked and dies with its parent. It drops its privileges itself
	 * (vl_drop_privileges), as soon as it can. */
	int (*work)(void *arg, int sock, const struct vl_progress *p, void *result, struct vl_err *err);
	/* In the parent: the child's question (img_child_ask), while signals have the caller's own handling. 0: go on, with *ret_fd
	 * (borrowed); 1: the work is not needed. NULL: there are no questions. */
	int (*asked)(void *arg, const void *question, int *ret_fd, struct vl_err *err);
	/* NULL, or called in the parent with the caller's own handling of signals when the child has written into a pipe.
	 * *ret_end: there was no more. The child's end is `pipe`, which it closes when all is written. */
	int (*written)(void *arg, int fd, bool *ret_end, struct vl_err *err);
	bool hold; /* signals wait meanwhile */
	int pipe;  /* set by img_child_run */
	void *arg;
	size_t result_size, question_size;
};
/* 0 and the result; 1 when asked said so; or the child's error. -EINTR: *ret_signal ended it. */
int img_child_run(struct img_child *c, const struct vl_progress *progress, void *ret_result, int *ret_signal,
		  struct vl_err *err);
/* For `written` that wants all of it in memory: what there is, behind `to`, which has at most `limit` bytes in the end. what: names
 * the whole in the error of more. */
int img_child_gather(const struct img_child *c, int fd, struct vl_buf *to, size_t limit, const char *what,
		     bool *ret_end, struct vl_err *err);
/* In the child. *ret_fd is its own. */
int img_child_ask(int sock, const void *question, size_t n, int *ret_fd, struct vl_err *err);

#endif
