#include "check.h"

#include <vial/base.h>

TEST(fail_fills_code_and_text)
{
	struct vl_err err = { 0 };
	CHECK_EQ(vl_fail(&err, ENOENT, "cannot open %s", "a.sif"), -ENOENT);
	CHECK_EQ(err.code, ENOENT);
	CHECK_STR(err.text, "cannot open a.sif");
}

TEST(fail_sys_adds_the_reason)
{
	struct vl_err err = { 0 };
	CHECK_EQ(vl_fail_sys(&err, EACCES, "cannot open %s", "a.sif"), -EACCES);
	CHECK_STR(err.text, "cannot open a.sif: Permission denied");
	vl_fail_sys(&err, 9999, "x");
	CHECK_STR(err.text, "x: unknown error");
}

TEST(a_code_of_zero_or_less_is_never_success)
{
	struct vl_err err = { 0 };
	CHECK_EQ(vl_fail(&err, 0, "x"), -EIO);
	CHECK_EQ(vl_fail_sys(&err, -ENOENT, "x"), -EIO);
}

TEST(wrap_puts_context_in_front)
{
	struct vl_err err = { 0 };
	vl_fail(&err, EINVAL, "bad magic");
	CHECK_EQ(vl_wrap(&err, "%s, object %d", "a.sif", 3), -EINVAL);
	CHECK_STR(err.text, "a.sif, object 3: bad magic");
	CHECK_EQ(vl_wrap(&err, "verify"), -EINVAL);
	CHECK_STR(err.text, "verify: a.sif, object 3: bad magic");
}

TEST(long_texts_are_cut_not_overrun)
{
	struct vl_err err = { 0 };
	char big[5000];

	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = 0;
	vl_fail_sys(&err, EIO, "%s", big);
	CHECK_EQ(strlen(err.text), sizeof err.text - 1);
	vl_wrap(&err, "context");
	CHECK(vl_prefix(err.text, "context: xxx"));
	vl_wrap(&err, "%s", big);
	CHECK_EQ(strlen(err.text), sizeof err.text - 1);
}
