/* required spank_vial.so prefix=container vial=/usr/bin/vial mounts=/scratch,/opt/site:/opt/site:ro names=/tmp
 * records=/var/log/vial record-timeout=10 stage=/local/stage:200G fanout=/usr/bin/sbcast timeout=600 check=yes */
#include "plugin.h"

#ifndef VSP_VIAL
#define VSP_VIAL "/usr/local/bin/vial"
#endif
#define TIMEOUT 600       /* seconds: an image of a few gigabytes is converted meanwhile */
#define RECORD_TIMEOUT 10 /* for a line to be added to a file */

static int set_seconds(const char *word, const char *value, long *ret, struct vl_err *err)
{
	char *end;
	long seconds = strtol(value, &end, 10);

	if (*end || end == value || seconds < 1 || seconds > 86400)
		return vl_fail(err, EINVAL, "%s: from 1 to 86400 seconds", word);
	*ret = seconds;
	return 0;
}

static int set(struct vsp_site *site, const char *word, struct vl_err *err)
{
	const char *value;

	if ((value = vl_prefix(word, "prefix=")) && *value) {
		site->prefix = value;
	} else if ((value = vl_prefix(word, "vial=")) && *value == '/') {
		site->vial = value;
	} else if ((value = vl_prefix(word, "mounts="))) {
		site->mounts = value;
	} else if ((value = vl_prefix(word, "names=")) && *value == '/') {
		site->names = value;
	} else if ((value = vl_prefix(word, "records=")) && *value == '/') {
		site->records = value;
	} else if ((value = vl_prefix(word, "stage=")) && *value == '/') {
		const char *size = strrchr(value, ':');
		uint64_t bytes;
		if (size && vl_parse_size(size + 1, INT64_MAX, &bytes) < 0)
			return vl_fail(err, EINVAL, "%s: the size is written as in stage=/local:200G", word);
		site->stage = value;
	} else if ((value = vl_prefix(word, "fanout=")) && *value == '/') {
		site->fanout = value;
	} else if ((value = vl_prefix(word, "timeout="))) {
		return set_seconds(word, value, &site->timeout, err);
	} else if ((value = vl_prefix(word, "record-timeout="))) {
		return set_seconds(word, value, &site->record_timeout, err);
	} else if (vl_streq(word, "check=yes") || vl_streq(word, "check=no")) {
		site->check = vl_streq(word, "check=yes");
	} else {
		return vl_fail(err, EINVAL,
			       "plugstack.conf: '%s' is not known; prefix=, vial=/PATH, mounts=, names=/DIR, "
			       "records=/DIR, record-timeout=, stage=/DIR[:SIZE], fanout=/PATH, timeout=, check= are",
			       word);
	}
	return 0;
}

int vsp_site_read(int argc, char **argv, struct vsp_site *ret, struct vl_err *err)
{
	int r = 0;

	*ret = (struct vsp_site){ .prefix = "container",
				  .vial = VSP_VIAL,
				  .names = "/tmp",
				  .timeout = TIMEOUT,
				  .record_timeout = RECORD_TIMEOUT,
				  .check = true };
	for (int i = 0; i < argc; i++) {
		struct vl_err one = { 0 };
		if (set(ret, argv[i], &one) < 0 && r == 0) {
			*err = one;
			r = -one.code;
		}
	}
	return r;
}
