/* Any bytes as a credential file, looked up for a few names. */
#include "fuzz.h"

#include "oci/auth.h"

#include <sys/mman.h>

static void find(struct oci_credentials *c, const char *host, const char *repo)
{
	VL_CLEANUP(oci_cred_free) struct oci_cred cred = { 0 };
	struct vl_err err = { 0 };

	if (oci_credentials_find(c, host, repo, &cred, &err) < 0)
		return;
	if (!cred.from || (!cred.username && !cred.identity_token && !cred.registry_token))
		abort();
	if (cred.username && !cred.password)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char none[] = "/nonexistent";
	VL_CLOSE int fd = memfd_create("auth", MFD_CLOEXEC);
	char path[64];
	struct oci_credentials *c = NULL;
	struct vl_err err = { 0 };

	setenv("PATH", none, 1); /* a file may name a helper: none is found */
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (fd < 0 || vl_write_full(fd, data, size) < 0)
		abort();
	const struct oci_net net = { .authfile = path };
	if (oci_credentials_load(&net, NULL, &c, &err) < 0)
		return 0;
	find(c, "q.io", "a/b");
	find(c, "docker.io", "library/a");
	find(c, "[::1]:5000", "");
	oci_credentials_free(c);
	return 0;
}
