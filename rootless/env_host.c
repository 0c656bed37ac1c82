/* What comes from outside into a container's environment: the host's variables, and what the user sets. */
#include "rootless.h"

static bool is_ours(const char *kv)
{
	static const char *const steer[] = { "APPTAINER_",    "SINGULARITY_",    "VIAL_",
					     "APPTAINERENV_", "SINGULARITYENV_", "VIALENV_" };
	static const char *const never[] = { "PATH", "HOME", "LD_LIBRARY_PATH", "PWD", "OLDPWD", "_" };

	if (vl_prefix(kv, "VIAL_CONTAINER_")) /* says something to srun, in a batch script */
		return false;
	for (size_t i = 0; i < VL_COUNT(steer); i++)
		if (vl_prefix(kv, steer[i]))
			return true;
	for (size_t i = 0; i < VL_COUNT(never); i++)
		if (ctr_key_is(kv, never[i]))
			return true;
	return false;
}

/* "A_*" in a list stands for all names that begin with "A_". */
static bool matches(const char *kv, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(list[i]);
		if (list[i][len - 1] == '*' ? !strncmp(kv, list[i], len - 1) : ctr_key_is(kv, list[i]))
			return true;
	}
	return false;
}

static const char *const keep_always[] = { "TERM",      "http_proxy", "https_proxy", "ftp_proxy",
					   "all_proxy", "no_proxy",   "HTTP_PROXY",  "HTTPS_PROXY",
					   "FTP_PROXY", "ALL_PROXY",  "NO_PROXY" };

/* Schedulers, MPI and its transports, and what says which devices and cores are this job's. */
static const char *const keep_for_jobs[] = {
	"SLURM_*",
	"SLURMD_*",
	"SRUN_*",
	"SBATCH_*",
	"PMI_*",
	"PMI2_*",
	"PMIX_*",
	"PRTE_*",
	"PALS_*",
	"ALPS_*",
	"OMPI_*",
	"MPI*",
	"I_MPI_*",
	"MV2_*",
	"HYDRA_*",
	"HYDI_*",
	"UCX_*",
	"FI_*",
	"NCCL_*",
	"RCCL_*",
	"PBS_*",
	"LSB_*",
	"LSF_*",
	"LS_*",
	"SGE_*",
	"JOB_ID",
	"NSLOTS",
	"FLUX_*",
	"COBALT_*",
	"OAR_*",
	"OMP_*",
	"KMP_*",
	"GOMP_*",
	"OPENBLAS_NUM_THREADS",
	"MKL_NUM_THREADS",
	"CUDA_VISIBLE_DEVICES",
	"CUDA_DEVICE_ORDER",
	"NVIDIA_VISIBLE_DEVICES",
	"ROCR_VISIBLE_DEVICES",
	"HIP_VISIBLE_DEVICES",
	"GPU_DEVICE_ORDINAL",
	"ZE_AFFINITY_MASK",
	"ONEAPI_DEVICE_SELECTOR",
	"HABANA_VISIBLE_DEVICES",
};

/* What a developer's login sets up for programs of the host, and breaks those of an image. */
static const char *const host_dev[] = {
	"PYTHON*",         "PERL5LIB",
	"PERL5OPT",        "PERL_LOCAL_LIB_ROOT",
	"PERL_MB_OPT",     "PERL_MM_OPT",
	"R_LIBS",          "R_LIBS_*",
	"R_HOME",          "R_PROFILE*",
	"R_ENVIRON*",      "LD_*",
	"PKG_CONFIG_*",    "CPATH",
	"C_INCLUDE_PATH",  "CPLUS_INCLUDE_PATH",
	"LIBRARY_PATH",    "CMAKE_PREFIX_PATH",
	"ACLOCAL_PATH",    "MODULEPATH*",
	"MODULESHOME",     "MODULES_*",
	"MODULERCFILE",    "LOADEDMODULES",
	"_LMFILES_*",      "LMOD_*",
	"__LMOD_*",        "_ModuleTable*",
	"__MODULES_*",     "BASH_FUNC_*",
	"BASH_ENV",        "ENV",
	"CONDA_*",         "_CE_*",
	"VIRTUAL_ENV*",    "MAMBA_*",
	"RUBYLIB",         "RUBYOPT",
	"GEM_*",           "NODE_PATH",
	"JULIA_LOAD_PATH", "JULIA_DEPOT_PATH",
	"LUA_PATH*",       "LUA_CPATH*",
	"TCLLIBPATH",      "CLASSPATH",
	"MANPATH",         "INFOPATH",
	"GCONV_PATH",      "QT_PLUGIN_PATH",
};

static bool passes(const char *kv, enum plan_clean clean)
{
	switch (clean) {
	case CTR_CLEAN_NONE:
		return true;
	case CTR_CLEAN_HOST_DEV:
		return !matches(kv, host_dev, VL_COUNT(host_dev));
	case CTR_CLEAN_BUT_SCHEDULER:
		if (matches(kv, keep_for_jobs, VL_COUNT(keep_for_jobs)))
			return true; /* fall through */
	case CTR_CLEAN_ALL:
		break;
	}
	return matches(kv, keep_always, VL_COUNT(keep_always));
}

const char *ctr_host_env_why_not(const char *kv, enum plan_clean clean, const struct vl_strv *block)
{
	static const char *const levels[] = {
		[CTR_CLEAN_NONE] = NULL,
		[CTR_CLEAN_HOST_DEV] = "--clean host-dev: it is for programs of the host",
		[CTR_CLEAN_BUT_SCHEDULER] = "--clean all-but-scheduler",
		[CTR_CLEAN_ALL] = "--cleanenv",
	};

	if (*kv == '=' || !strchr(kv, '='))
		return "it is no variable";
	if (is_ours(kv))
		return "it is for the host, or steers vial";
	for (size_t i = 0; i < block->n; i++)
		if (ctr_key_is(kv, block->v[i]))
			return "--no-env";
	return passes(kv, clean) ? NULL : levels[clean];
}

void ctr_plan_host_env(struct plan *p, char *const *environment, enum plan_clean clean, const struct vl_strv *block)
{
	p->env.clean = clean;
	for (; *environment; environment++)
		if (!ctr_host_env_why_not(*environment, clean, block))
			vl_strv_add(&p->env.host, *environment);
	if (clean == CTR_CLEAN_HOST_DEV)
		ctr_env_put(&p->env.host, "PYTHONNOUSERSITE", "1");
	if (clean >= CTR_CLEAN_BUT_SCHEDULER)
		ctr_env_put(&p->env.host, "LANG", "C");
}

int ctr_plan_set_env(struct plan *p, const char *kv, const struct vl_progress *say, struct vl_err *err)
{
	const char *eq = strchr(kv, '='), *v;

	if (!eq)
		return vl_fail(err, EINVAL, "'%s' is not of the form KEY=VALUE", kv);
	if (eq == kv)
		vl_progress_warn(say, "'%s' has no name and is no variable; it is left out", kv);
	else if (ctr_key_is(kv, "HOME"))
		vl_progress_warn(say, "HOME cannot be set this way; use --home");
	else if ((v = vl_prefix(kv, "PREPEND_PATH=")))
		ctr_extend(&p->env.path_first, v, true);
	else if ((v = vl_prefix(kv, "APPEND_PATH=")))
		ctr_extend(&p->env.path_last, v, false);
	else if ((v = vl_prefix(kv, "PREPEND_LD_LIBRARY_PATH=")))
		ctr_extend(&p->env.ld_first, v, true);
	else if ((v = vl_prefix(kv, "APPEND_LD_LIBRARY_PATH=")))
		ctr_extend(&p->env.ld_last, v, false);
	else
		ctr_env_put_kv(&p->env.set, kv);
	return 0;
}

int ctr_plan_env_text(struct plan *p, const char *text, const char *name, char *const *environment,
		      const struct vl_progress *say, struct vl_err *err)
{
	CTR_SCOPE struct ctr_scope scope = { .export_all = true }; /* as a file of variables is read everywhere */

	for (char *const *e = environment; *e; e++)
		vl_strv_add(&scope.env, *e);
	if (!ctr_eval_text(text, &scope)) { /* more than assignments */
		VL_FREE char *plain = NULL;
		int r = ctr_eval_by_shell(text, name, environment, &plain, err);
		if (r < 0)
			return r;
		ctr_scope_free(&scope);
		if (!ctr_eval_text(plain, &scope))
			return vl_fail(err, EINVAL, "%s: what /bin/sh made of it is not understood", name);
	}
	/* by name, not by what is new: a value the host has too must beat the image's all the same */
	for (size_t i = 0; i < scope.env.n; i++) {
		VL_FREE char *key = vl_strndup(scope.env.v[i], strcspn(scope.env.v[i], "="));
		int r = ctr_env_get(&scope.assigned, key) ? ctr_plan_set_env(p, scope.env.v[i], say, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}
