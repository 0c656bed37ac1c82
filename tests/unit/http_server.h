/* A web server for one test: a handler in C answers each request, on loopback, one request a connection. */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/socket.h>

struct srv;
/* n: how many requests came before. It writes the whole answer into fd. */
typedef void srv_handler(struct srv *s, int fd, const char *request, unsigned n);
struct srv {
	srv_handler *handle;
	int fd, port;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t quiet;
	unsigned active;   /* connections being served */
	unsigned n;        /* requests so far */
	char log[64][400]; /* their heads, cut */
	void *arg;
};

static inline void srv_write(int fd, const void *p, size_t n)
{
	const char *b = p;
	while (n) {
		ssize_t r = send(fd, b, n, MSG_NOSIGNAL);
		if (r <= 0)
			return; /* the client went away: some tests are about that */
		b += r;
		n -= (size_t)r;
	}
}

static inline void srv_say(int fd, const char *fmt, ...)
{
	char text[8192];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	CHECK(n >= 0 && (size_t)n < sizeof text);
	srv_write(fd, text, (size_t)n);
}

/* Head and body; heads are whole lines, "" = none. */
static inline void srv_reply(int fd, const char *status, const char *heads, const void *body, size_t len)
{
	srv_say(fd, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\nConnection: close\r\n\r\n", status, heads, len);
	srv_write(fd, body, len);
}

struct srv_conn {
	struct srv *s;
	int fd;
};

static void *srv_serve(void *arg)
{
	struct srv_conn c = *(struct srv_conn *)arg;
	char head[16384];
	size_t n = 0;

	free(arg);
	while (n < sizeof head - 1) {
		ssize_t r = recv(c.fd, head + n, 1, 0); /* byte by byte: the body stays for the handler */
		if (r <= 0)
			break;
		head[n += (size_t)r] = 0;
		if (*head == 0x16) { /* TLS, which this is not */
			srv_reply(c.fd, "400 Bad Request", "", "", 0);
			break;
		}
		if (n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0) {
			pthread_mutex_lock(&c.s->lock);
			unsigned i = c.s->n++;
			if (i < 64)
				snprintf(c.s->log[i], sizeof c.s->log[i], "%.399s", head);
			pthread_mutex_unlock(&c.s->lock);
			c.s->handle(c.s, c.fd, head, i);
			break;
		}
	}
	shutdown(c.fd, SHUT_RDWR);
	close(c.fd);
	pthread_mutex_lock(&c.s->lock);
	c.s->active--;
	pthread_cond_broadcast(&c.s->quiet);
	pthread_mutex_unlock(&c.s->lock);
	return NULL;
}

static void *srv_accept(void *arg)
{
	struct srv *s = arg;

	for (;;) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
		pthread_t t;
		if (fd < 0)
			return NULL;
		struct srv_conn *c = malloc(sizeof *c);
		CHECK(c);
		*c = (struct srv_conn){ s, fd };
		pthread_mutex_lock(&s->lock);
		s->active++;
		pthread_mutex_unlock(&s->lock);
		CHECK_EQ(pthread_create(&t, NULL, srv_serve, c), 0);
		pthread_detach(t);
	}
}

static inline void srv_start(struct srv *s, srv_handler *handle, void *arg)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;

	memset(s, 0, sizeof *s);
	s->handle = handle;
	s->arg = arg;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->quiet, NULL);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(s->fd >= 0);
	CHECK_EQ(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
	CHECK_EQ(listen(s->fd, 64), 0);
	CHECK_EQ(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
	s->port = ntohs(a.sin_port);
	CHECK_EQ(pthread_create(&s->thread, NULL, srv_accept, s), 0);
	/* no proxy of the machine between the two */
	setenv("no_proxy", "*", 1);
}

/* Nothing of it runs any more afterwards. */
static inline void srv_stop(struct srv *s)
{
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	pthread_mutex_lock(&s->lock);
	while (s->active)
		pthread_cond_wait(&s->quiet, &s->lock);
	pthread_mutex_unlock(&s->lock);
	close(s->fd);
}

static inline unsigned srv_count(struct srv *s)
{
	pthread_mutex_lock(&s->lock);
	unsigned n = s->n;
	pthread_mutex_unlock(&s->lock);
	return n;
}

#endif
