/* Begin and end of the FUSE session, and its threads. */
#include "squash_srv.h"

#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

#define STACK (512u << 10) /* some 20 KiB are used; the default may be more than a limit on memory leaves */

static void say_nothing(enum fuse_log_level level, const char *fmt, va_list ap)
{
	(void)level, (void)fmt, (void)ap;
}

int vmnt_session_new(const struct vmnt_image *image, int fusefd, int statm, struct vmnt_session **ret,
		     struct vl_err *err)
{
	char *argv[] = { (char *)"vial", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct vmnt_session *s = vl_alloc(sizeof *s);
	char dev[32];

	s->image = *image;
	s->statm = statm;
	s->record = image->record ? vmnt_record_new() : NULL;
	s->started = time(NULL);
	s->sq.fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->turn, NULL);
	pthread_cond_init(&s->next, NULL);
	fuse_set_log_func(say_nothing);
	s->fuse = fuse_session_new(&args, &vmnt_srv_ops, sizeof vmnt_srv_ops, s);
	snprintf(dev, sizeof dev, "/dev/fd/%d", fusefd); /* libfuse: "the mount is made, here is its descriptor" */
	int r = 0;
	if (!s->fuse || fuse_session_mount(s->fuse, dev) != 0 || pthread_key_create(&s->key, NULL) != 0)
		r = vl_fail(err, ENOMEM, "libfuse cannot start a session");
	/* All is open and no byte of the image has been read. */
	if (r < 0 || (r = vmnt_jail(err)) < 0 || (r = vmnt_sq_open(&s->sq, image, err)) < 0 ||
	    (r = vmnt_virtual_plan(&s->sq, image->places, image->n_places, &s->virt, err)) < 0) {
		vmnt_session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void vmnt_session_free(struct vmnt_session *s)
{
	if (s->fuse)
		fuse_session_destroy(s->fuse);
	vmnt_virtual_free(&s->virt);
	vmnt_sq_close(&s->sq);
	vmnt_record_free(s->record);
	free(s);
}

/* ---- threads -------------------------------------------------------------------------------- */

/* None is ever joined: who ends the mount ends the process. False: there is none, and arg is still the caller's. */
static bool start(void *(*f)(void *), void *arg)
{
	pthread_attr_t a;
	pthread_t t;

	if (pthread_attr_init(&a) != 0)
		return false;
	pthread_attr_setstacksize(&a, STACK);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	int r = pthread_create(&t, &a, f, arg);
	pthread_attr_destroy(&a);
	return r == 0;
}

struct control_arg {
	int sock;
	struct vmnt_session *s;
};

static void *control_thread(void *p)
{
	VL_FREE struct control_arg *a = p;

	vmnt_control_serve(a->sock, a->s);
	close(a->sock);
	return NULL;
}

static void start_control(struct vmnt_session *s, int sock)
{
	struct control_arg *a = vl_alloc(sizeof *a);

	*a = (struct control_arg){ sock, s };
	if (!start(control_thread, a)) {
		close(sock); /* whoever asks is told that the server is gone */
		free(a);
	}
}

/* While who starts a program sets up its surroundings, another processor unpacks what every program begins with. Not the
 * one that answers: it would be asked in vain until the end of this thread's time slice. */
static void unpack_early(const struct vmnt_session *s, struct squash *sq)
{
	cpu_set_t before, others;
	struct sq_inode i;
	bool know = s->cpu >= 0 && sched_getaffinity(0, sizeof before, &before) == 0;

	if (know) {
		others = before;
		CPU_CLR((size_t)s->cpu, &others);
		know = sched_setaffinity(0, sizeof others, &others) == 0;
	}
	for (size_t k = 0; k < s->image.n_early; k++)
		if (vmnt_sq_find(sq, s->image.early[k], &i) == 0 && S_ISREG(i.mode))
			vmnt_sq_warm(sq, &i, VL_MAX(VMNT_EARLY / s->sq.super.block_size, 1u));
	if (know)
		sched_setaffinity(0, sizeof before, &before);
}

static void *ahead_thread(void *p)
{
	struct vmnt_session *s = p;
	struct squash *sq = vl_alloc(sizeof *sq);

	vmnt_sq_reader(&s->sq, sq);
	unpack_early(s, sq);
	vmnt_ahead_loop(sq);
}

static void start_ahead(struct vmnt_session *s)
{
	if (start(ahead_thread, s))
		vmnt_ahead_start(&s->sq.sh->ahead);
}

/* ---- turns: one thread listens ------------------------------------------------------------------ */

/* The kernel would wake another thread for each question, and one program that asks one thing after the other
 * would find all caches of the CPU cold. So one thread listens and answers what is quickly answered. It hands
 * the listening on when something slow is to be done, or when more waits already. */

static void *worker_thread(void *p);

static void *first_thread(void *p) /* after the main one */
{
	struct vmnt_session *s = p;

	if (!s->image.n_early)
		start_ahead(s);
	return worker_thread(p);
}

static void hand_on(void *p)
{
	struct srv_worker *w = p;
	struct vmnt_session *s = w->s;
	unsigned more = 0;

	if (!w->listening)
		return;
	pthread_mutex_lock(&s->turn);
	if (!s->idle && s->threads < s->max_threads && s->asked >= SRV_WARM)
		more = ++s->threads;
	if (s->idle || more) {
		w->listening = s->listening = false;
		pthread_cond_signal(&s->next);
	}
	pthread_mutex_unlock(&s->turn);
	if (more && !start(more == 2 ? first_thread : worker_thread, s)) {
		pthread_mutex_lock(&s->turn);
		s->max_threads = --s->threads; /* those there are will do */
		pthread_mutex_unlock(&s->turn);
	}
}

/* False: the mount is gone. */
static bool take_turn(struct srv_worker *w)
{
	struct vmnt_session *s = w->s;

	if (w->listening)
		return true;
	pthread_mutex_lock(&s->turn);
	while (s->listening && !s->ended) {
		s->idle++;
		pthread_cond_wait(&s->next, &s->turn);
		s->idle--;
	}
	w->listening = !s->ended;
	s->listening |= w->listening;
	pthread_mutex_unlock(&s->turn);
	return w->listening;
}

static void end(struct vmnt_session *s)
{
	pthread_mutex_lock(&s->turn);
	s->ended = true;
	pthread_cond_broadcast(&s->next);
	pthread_mutex_unlock(&s->turn);
}

static void hand_on_if_more(struct srv_worker *w)
{
	struct pollfd fd = { .fd = fuse_session_fd(w->s->fuse), .events = POLLIN };

	if (w->s->asked < SRV_WARM)
		w->s->asked++;
	else if (w->s->max_threads > 1 && poll(&fd, 1, 0) > 0 && fd.revents == POLLIN)
		hand_on(w);
}

static void work(struct vmnt_session *s)
{
	struct srv_worker w = { .s = s };
	struct fuse_buf question = { .mem = NULL };

	vmnt_sq_reader(&s->sq, &w.sq);
	w.sq.slow = hand_on;
	w.sq.slow_arg = &w;
	pthread_setspecific(s->key, &w);
	while (take_turn(&w)) {
		int r = fuse_session_receive_buf(s->fuse, &question);
		if (r == -EINTR)
			continue;
		if (r <= 0 || fuse_session_exited(s->fuse))
			break;
		hand_on_if_more(&w);
		fuse_session_process_buf(s->fuse, &question);
	}
	if (w.listening)
		end(s);
	free(question.mem);
	free(w.buf);
	vmnt_sq_close(&w.sq);
}

static void *worker_thread(void *p)
{
	work(p);
	return NULL;
}

void vmnt_session_loop(struct vmnt_session *s, int control)
{
	mallopt(M_ARENA_MAX, 1); /* threads allocate next to nothing; an arena is 64 MiB of addresses */
	vmnt_sq_let_go(&s->sq);
	s->threads = 1;
	s->max_threads = VL_MAX(s->image.threads, 1u);
	if (s->max_threads == 1)
		s->image.n_early = 0;
	else if (s->image.n_early) {
		s->cpu = sched_getcpu();
		start_ahead(s);
	}
	if (control >= 0)
		start_control(s, control);
	work(s);
}
