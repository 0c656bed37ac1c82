/* What `vial` and `vial-verify` say to each other. */
#ifndef CMD_VERIFY_H
#define CMD_VERIFY_H

#include <vial/base.h>

/* vial-verify SOCKET IMAGE KEY...: two descriptors and files of public keys. It answers with VL_MSG_ERR, or with VL_MSG_FD:
 * this, and a file in memory that has the configuration in it. */
#define VERIFY_SIGNER_MAX 96 /* of an id: "SHA256:" and 43 letters, or a fingerprint */
#define VERIFY_SIGNERS 16
struct verify_answer {
	uint64_t off, size;               /* the partition's place */
	uint64_t config_off, config_size; /* of oci-config.json in the file; size 0 = there is none */
	uint64_t tree_off;                /* of the levels */
	uint32_t tree_block;
	uint8_t root[32];
	uint32_t n_signers;
	char signer[VERIFY_SIGNERS][VERIFY_SIGNER_MAX];
};

#endif
