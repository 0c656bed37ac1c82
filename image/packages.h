/* Package databases of an image: each reader takes the bytes of one and adds what is in it. All bytes come from outside. */
#ifndef IMAGE_PACKAGES_H
#define IMAGE_PACKAGES_H

#include <vial/image.h>

#define IMG_MAX_PACKAGES 200000u         /* the largest images in use have some thousands */
#define IMG_MAX_PACKAGE_FIELD 4096u      /* longer values of a database are cut */
#define IMG_MAX_PACKAGE_LIST (64u << 20) /* bytes of all strings: 200000 packages have 300 each */
#define IMG_MAX_PACKAGE_DB (512u << 20)  /* an rpm database of 3000 packages has 150 MB */

/* Takes what is in *p. -EFBIG: there are too many, or they are too long. */
int img_packages_add(struct img_packages *l, struct img_package *p, struct vl_err *err);
void img_package_free(struct img_package *p);

/* packages_text.c */
int img_packages_dpkg(const char *text, size_t n, struct img_packages *l, struct vl_err *err);
int img_packages_apk(const char *text, size_t n, struct img_packages *l, struct vl_err *err);
/* METADATA or PKG-INFO; its begin is enough. path: where it lies. */
int img_packages_python(const char *text, size_t n, const char *path, struct img_packages *l, struct vl_err *err);
/* Fills the os_ fields that are not known yet. */
void img_packages_os_release(const char *text, size_t n, struct img_packages *l);

/* packages_rpm.c. Of a database that is damaged, what could be read is added, and *ret_why (new) says
 * why there is no more; else it stays. -EFBIG as above. */
int img_packages_rpm_sqlite(uint8_t *db, size_t n, struct img_packages *l, char **ret_why, struct vl_err *err);
int img_packages_rpm_ndb(const uint8_t *db, size_t n, struct img_packages *l, char **ret_why, struct vl_err *err);
/* packages_bdb.c */
int img_packages_rpm_bdb(const uint8_t *db, size_t n, struct img_packages *l, char **ret_why, struct vl_err *err);
/* One package: an rpm header as databases hold it. -EINVAL: it is none. */
int img_packages_rpm_header(const uint8_t *p, size_t n, struct img_packages *l, struct vl_err *err);

#endif
