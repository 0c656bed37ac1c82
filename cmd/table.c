/* One row per command. Compiled twice: each program knows every name and summary, and the
 * options and functions of its own commands. */
#include "commands.h"
#include "run.h"

#ifdef VIAL_IMAGE
#define RUN(o, size, fn) .opts = NULL, .opts_size = 0, .run = NULL
#define IMAGE(o, size, fn) .image = true, .opts = o, .opts_size = size, .run = fn
#else
#define RUN(o, size, fn) .opts = o, .opts_size = size, .run = fn
#define IMAGE(o, size, fn) .image = true, .opts = NULL, .opts_size = 0, .run = NULL
#endif

#define ACTION(fn) RUN(cmd_action_opts, sizeof(struct action_opts), fn)

/* a row is read as a row: */
/* clang-format off */
const struct cmd commands[] = {
	{ "attach", "PID|[job:]JOB[.STEP]|instance NAME [PROGRAM [ARG...]]", "Enter a container that runs",
	  "Whose container: that of one of your processes, of one of your processes of a Slurm job or step on\n"
	  "this node, or an instance. The program, by default a shell, has its files, namespaces and environment,\n"
	  "and is in its cgroup where that is permitted.",
	  "  vial attach 4711\n  vial attach 1234.0 nvidia-smi\n  vial attach instance db psql\n", .min_args = 1, .max_args = -1,
	  RUN(NULL, 0, cmd_attach_run) },
	{ "build", "OUT SOURCE", "Make a SIF image from an OCI image or a directory",
	  "SOURCE is docker://NAME[:TAG|@DIGEST], oras://HOST/NAME[:TAG], http(s)://..., oci:DIR[:TAG|@DIGEST],\n"
	  "oci-archive:FILE[:TAG], docker-archive:FILE[:TAG] or a directory.\n"
	  "Layers are streamed: nothing is unpacked on the way, and every digest is checked.\n"
	  "With --sandbox OUT is a directory, and SOURCE may be an image file too.",
	  "  vial build app.sif oci:./layout:latest\n"
	  "  vial build --encrypt --pem-path key.pub.pem app.sif docker://debian:12\n"
	  "  vial build --compress gzip app.sif docker-archive:app.tar\n"
	  "  vial build --sandbox app/ app.sif\n",
	  .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_build_options, sizeof(struct build_opts), cmd_build_run) },
	{ "cache clean", "", "Remove images and layers from the store",
	  "Asks first, unless told not to. Running containers keep their image.",
	  "  vial cache clean --dry-run\n  vial cache clean --force --days 30\n", .max_args = 0,
	  IMAGE(cmd_cache_clean_opts, sizeof(struct cmd_cache_opts), cmd_cache_clean_run) },
	{ "cache list", "", "List the images and layers of the store",
	  "The store is $VIAL_CACHEDIR, else $XDG_CACHE_HOME/vial, else ~/.cache/vial.",
	  "  vial cache list\n  vial cache list --json --type image\n", .max_args = 0,
	  IMAGE(cmd_cache_list_opts, sizeof(struct cmd_cache_opts), cmd_cache_list_run) },
	{ "cache prune", "", "Make the store as small as its limit",
	  "What was unused longest goes first. Asks nothing: meant for scripts and cron.",
	  "  vial cache prune --limit 50G\n  vial cache prune --days 90\n", .max_args = 0,
	  IMAGE(cmd_cache_prune_opts, sizeof(struct cmd_cache_opts), cmd_cache_prune_run) },
	{ "cat", "IMAGE:PATH...", "Print files of an image",
	  "IMAGE is what exec takes; PATH begins with '/', and links in it lead to where they do inside the\n"
	  "image. Nothing is mounted and nothing of the image is run.",
	  "  vial cat app.sif:/etc/os-release\n  vial cat docker://debian:12:/etc/debian_version\n",
	  .min_args = 1, .max_args = -1, .interspersed = true,
	  IMAGE(cmd_cat_options, sizeof(struct cmd_cat_opts), cmd_cat_run) },
	{ "completion", "bash|zsh|fish", "Print a completion script for a shell", NULL,
	  "  source <(vial completion bash)\n",
	  .min_args = 1, .max_args = 1, RUN(NULL, 0, cmd_completion_run) },
	{ "config", "", "Show the settings and where each comes from",
	  "Settings are lines of `key = value` in the site's vial.conf, its drop-ins and the user's file;\n"
	  "environment and command line beat them. What is printed is such a file again.",
	  "  vial config --show\n  vial config --json\n",
	  .max_args = 0, .interspersed = true,
	  IMAGE(cmd_config_opts, sizeof(struct cmd_config_opts), cmd_config_run) },
	{ "cp", "IMAGE:PATH DEST", "Copy files out of an image",
	  "DEST is a new name, or a directory to copy into. Files that exist are left alone unless told\n"
	  "otherwise, nothing is written outside DEST, and a file appears whole or not at all.",
	  "  vial cp app.sif:/etc/os-release .\n  vial cp -r app.sif:/usr/share/doc doc\n",
	  .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_cp_options, sizeof(struct cmd_cp_opts), cmd_cp_run) },
	{ "decrypt", "IMAGE OUT", "Write an encrypted image's files as a plain squashfs image",
	  "For images of build --encrypt, and those that Apptainer encrypted without root. OUT (mode 0600) is what exec, ls and mount\n"
	  "take. exec, run and shell decrypt such an image by themselves, into memory.",
	  "  vial decrypt --pem-path key.pem secret.sif plain.squashfs\n", .min_args = 1, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_decrypt_options, sizeof(struct cmd_decrypt_opts), cmd_decrypt_run) },
	{ "diff", "IMAGE1[:PATH] IMAGE2[:PATH]", "Show how two images differ",
	  "Compares types, modes, owners, sizes, content, link targets, devices and extended attributes; not\n"
	  "times. Exit status: 0 they are the same, 1 they differ, 2 something went wrong.",
	  "  vial diff old.sif new.sif\n  vial diff --stat app.sif:/usr docker://debian:12:/usr\n",
	  .min_args = 2, .max_args = 2, .interspersed = true, .usage_status = 2,
	  IMAGE(cmd_diff_options, sizeof(struct cmd_diff_opts), cmd_diff_run) },
	{ "doctor", "[IMAGE]", "Tell whether containers can run here, and what mends it",
	  "Tries the steps of a start on this host, as this user, and leaves nothing behind. With an IMAGE, that is\n"
	  "mounted too. Ends with 0 when containers can run, else with 1.",
	  "  vial doctor\n  vial doctor --json app.sif\n",
	  .max_args = 1, .interspersed = true,
	  RUN(cmd_doctor_opts, sizeof(struct cmd_doctor_opts), cmd_doctor_run) },
	{ "exec", "IMAGE PROGRAM [ARG...]", "Run a program in a container",
	  "IMAGE is a SIF, a squashfs file, a directory, or a URI (docker://NAME:TAG and what pull takes), which\n"
	  "is fetched once and kept in the image cache. The container is read-only; the home\n"
	  "directory, the current one and /tmp are the host's. Options come before IMAGE.",
	  "  vial exec app.sif python3 job.py\n  vial exec docker://python:3.12 python3 --version\n  vial exec --bind /data:/mnt:ro app.sif ls /mnt\n",
	  .min_args = 2, .max_args = -1, ACTION(cmd_exec_run) },
	{ "fetch", "URI", "Put an image into the cache, ready to run",
	  "Prints where it is. A later `vial exec URI` starts at once; with a digest it needs no network.",
	  "  vial fetch docker://python:3.12\n",
	  .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_fetch_opts, sizeof(struct fetch_opts), cmd_fetch_run) },
	{ "gpu cdi", "", "Describe this machine's devices for container runtimes (CDI)",
	  "Prints a CDI specification: each device by number and UUID, and all, with the driver's files. In /etc/cdi every runtime\n"
	  "that knows CDI finds it; vial takes it with --device VENDOR/CLASS=NAME. Write it anew when the driver changes.",
	  "  vial gpu cdi\n  vial gpu cdi --output /etc/cdi/vial.yaml\n  vial exec --device nvidia.com/gpu=0 app.sif nvidia-smi\n",
	  .max_args = 0, .interspersed = true,
	  RUN(cmd_gpu_cdi_opts, sizeof(struct cmd_gpu_cdi_opts), cmd_gpu_cdi_run) },
	{ "gpu check", "IMAGE", "Tell whether an image will find its GPU on this machine",
	  "What the image needs, by its variables and files, against the driver, the devices of this job and\n"
	  "what this user may open. Ends with 0 when a GPU can be used, else with 1.",
	  "  vial gpu check app.sif\n  vial gpu check --json app.sif\n",
	  .min_args = 1, .max_args = 1, .interspersed = true,
	  RUN(cmd_gpu_check_opts, sizeof(struct cmd_gpu_opts), cmd_gpu_check_run) },
	{ "gpu list", "", "List GPUs, drivers and what of them a container would get",
	  "Reads what the kernel tells: no library of a vendor is loaded and no device is woken.",
	  "  vial gpu list\n  vial gpu list --files\n  vial gpu list --json\n",
	  .max_args = 0, .interspersed = true,
	  RUN(cmd_gpu_list_opts, sizeof(struct cmd_gpu_opts), cmd_gpu_list_run) },
	{ "hold", "--fd N IMAGE", "Keep a container for processes that enter it",
	  "For schedulers' plugins: makes the container, starts nothing in it, and gives the way in to whoever\n"
	  "asks on the socket N, until its other end is closed. Takes the options of exec; of the environment, only what\n"
	  "is said there of devices, restrictions, keys, credentials and the image's server.",
	  "  vial hold --fd 3 app.sif\n",
	  .min_args = 1, .max_args = 1, .given = true, ACTION(cmd_hold_run) },
	{ "holders", "", "List the images that are mounted, and for whom",
	  "All starts of an image share one mount, which a process called the holder owns; it goes with the\n"
	  "last of them. Shown are its pid, since when, memory, how many starts use it, the image, and their pids.",
	  "  vial holders\n  vial holders --json --stats\n",
	  .max_args = 0, .interspersed = true,
	  RUN(cmd_holders_opts, sizeof(struct cmd_holders_opts), cmd_holders_run) },
	{ "inspect", "IMAGE", "Show what an image says about itself",
	  "Prints labels as `key: value` lines unless told otherwise. Nothing of the image is run.",
	  "  vial inspect app.sif\n  vial inspect --json --all app.sif\n  vial inspect --digests app.sif\n",
	  .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_inspect_opts, sizeof(struct cmd_inspect_opts), cmd_inspect_run) },
	{ "instance list", "[GLOB]", "List the instances that run",
	  "Of an instance whose processes were killed, nothing is shown and nothing is left.",
	  "  vial instance list\n  vial instance list --json 'web*'\n", .max_args = 1, .interspersed = true,
	  RUN(cmd_instance_list_opts, sizeof(struct cmd_instance_opts), cmd_instance_list_run) },
	{ "instance logs", "NAME", "Print what an instance has written",
	  "Its standard output to standard output, its standard error to standard error. The files stay when the\n"
	  "instance has ended, until one of that name is started again.",
	  "  vial instance logs web\n  vial instance logs --follow web\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  RUN(cmd_instance_logs_opts, sizeof(struct cmd_instance_opts), cmd_instance_logs_run) },
	{ "instance run", "IMAGE NAME [ARG...]", "Start an instance with an image's runscript",
	  "As instance start, but what runs in it is what `vial run` would run. Takes the options of exec, and\n"
	  "--restart no|on-failure|always, --pid-file FILE.",
	  "  vial instance run web.sif web --port 8080\n", .min_args = 2, .max_args = -1, ACTION(cmd_instance_run_run) },
	{ "instance start", "IMAGE NAME [ARG...]", "Start a container that stays, under a name",
	  "Runs the image's startscript with the arguments in the background. The instance stays until it is\n"
	  "stopped, also when the startscript has ended or the image has none; others enter it with\n"
	  "`vial exec instance://NAME PROGRAM`. Takes the options of exec, and\n"
	  "--restart no|on-failure|always: whether the program is started again when it has ended;\n"
	  "--pid-file FILE: where the pid of the instance is written to.",
	  "  vial instance start --bind /data db.sif db\n  vial exec instance://db psql\n  vial instance stop db\n",
	  .min_args = 2, .max_args = -1, ACTION(cmd_instance_start_run) },
	{ "instance stats", "NAME", "Show what an instance uses", "Counted over all its processes.",
	  "  vial instance stats --no-stream db\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  RUN(cmd_instance_stats_opts, sizeof(struct cmd_instance_opts), cmd_instance_stats_run) },
	{ "instance stop", "[NAME]", "Stop an instance",
	  "Sends a signal to its processes and waits until nothing is left of it; what has not ended after the\n"
	  "timeout is killed. NAME may be a pattern.",
	  "  vial instance stop db\n  vial instance stop --all\n", .max_args = 1, .interspersed = true,
	  RUN(cmd_instance_stop_opts, sizeof(struct cmd_instance_opts), cmd_instance_stop_run) },
	{ "instance unit", "NAME", "Print a systemd user unit for an instance that runs",
	  "The unit starts it with the options, in the directory and with the variables it was started with.",
	  "  vial instance unit db >~/.config/systemd/user/db.service\n  systemctl --user enable db\n", .min_args = 1, .max_args = 1,
	  RUN(NULL, 0, cmd_instance_unit_run) },
	{ "key export", "NAME|ID [FILE]", "Write a key of the keyring to a file", "To standard output without a FILE.",
	  "  vial key export me me.pub.pem\n", .min_args = 1, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_key_export_opts, sizeof(struct cmd_key_opts), cmd_key_export_run) },
	{ "key import", "FILE...", "Take keys into the keyring",
	  "FILE is a PEM private key, public key or certificate, or an armored OpenPGP public key. Prints its name\n"
	  "and its id. What it signs is trusted only when you say so, here or with `vial key trust`.",
	  "  vial key import --name anna anna.pub.pem\n  vial key trust anna\n", .min_args = 1, .max_args = -1,
	  .interspersed = true, IMAGE(cmd_key_import_opts, sizeof(struct cmd_key_opts), cmd_key_import_run) },
	{ "key list", "", "List the keys of the keyring, yours and the site's",
	  "With their ids in full. A private key with * is encrypted. Files that others could have changed are not\n"
	  "used, which is said.",
	  "  vial key list\n  vial key list --secret\n  vial key list --json\n", .max_args = 0, .interspersed = true,
	  IMAGE(cmd_key_list_opts, sizeof(struct cmd_key_opts), cmd_key_list_run) },
	{ "key newpair", "[PREFIX]", "Make a key pair",
	  "In the keyring, where `vial sign` finds it; or with PREFIX as the files PREFIX.pem and PREFIX.pub.pem.\n"
	  "The private key (mode 0600) stays with the signer; the public one goes to who verifies. On a terminal a\n"
	  "passphrase is asked for, which encrypts it. All are plain PEM files that other programs read too.",
	  "  vial key newpair\n  vial key newpair --name release --type rsa --bits 4096\n  vial key newpair --no-passphrase ./me\n",
	  .max_args = 1, .interspersed = true, IMAGE(cmd_newpair_opts, sizeof(struct cmd_newpair_opts), cmd_key_newpair_run) },
	{ "key pull", "[WORD...]", "Tells what to do instead: there are no key servers", NULL, NULL, .max_args = -1,
	  IMAGE(NULL, 0, cmd_key_server_run) },
	{ "key push", "[WORD...]", "Tells what to do instead: there are no key servers", NULL, NULL, .max_args = -1,
	  IMAGE(NULL, 0, cmd_key_server_run) },
	{ "key remove", "NAME|ID", "Remove a key from the keyring",
	  "A private key goes only with --secret or --both. Trust in a key that is gone goes with it.",
	  "  vial key remove anna\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_key_remove_opts, sizeof(struct cmd_key_opts), cmd_key_remove_run) },
	{ "key search", "[WORD...]", "Tells what to do instead: there are no key servers", NULL, NULL, .max_args = -1,
	  IMAGE(NULL, 0, cmd_key_server_run) },
	{ "key show", "KEY.pem|NAME|ID", "Print the id and the type of a key", NULL, NULL, .min_args = 1, .max_args = 1,
	  .interspersed = true, IMAGE(cmd_key_show_opts, sizeof(struct cmd_key_opts), cmd_key_show_run) },
	{ "key trust", "NAME|ID", "Trust what a key of the keyring signs", "An id may be shortened, as long as it is one key's.",
	  "  vial key trust anna\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(NULL, 0, cmd_key_trust_run) },
	{ "key untrust", "NAME|ID", "Trust a key no longer, and keep it", NULL,
	  NULL, .min_args = 1, .max_args = 1, .interspersed = true, IMAGE(NULL, 0, cmd_key_trust_run) },
	{ "ls", "IMAGE[:PATH]...", "List files of an image",
	  "IMAGE is what exec takes; PATH begins with '/', and links in it lead to where they do inside the\n"
	  "image. Nothing is mounted and nothing of the image is run.",
	  "  vial ls app.sif\n  vial ls -l app.sif:/usr/bin\n  vial ls -R --json docker://debian:12:/etc\n",
	  .min_args = 1, .max_args = -1, .interspersed = true,
	  IMAGE(cmd_ls_options, sizeof(struct cmd_ls_opts), cmd_ls_run) },
	{ "mount", "[IMAGE DIR [-- COMMAND [ARG...]]]", "Show an image's files in a directory",
	  "IMAGE is what exec takes. Root mounts by itself, others with the system's fusermount3 (package fuse3).\n"
	  "It stays until vial umount. With a COMMAND, the command alone sees it, for as long as it runs: that\n"
	  "takes neither root nor fusermount3. Without arguments: lists your mounts.",
	  "  vial mount app.sif /mnt\n  vial mount\n  vial umount /mnt\n  vial mount app.sif /mnt -- diff -r /mnt/etc /etc\n",
	  .min_args = 0, .max_args = -1,
	  RUN(cmd_mount_options, sizeof(struct cmd_mount_opts), cmd_mount_run) },
	{ "mpi check", "IMAGE", "Say which MPI an image has and how srun must start it",
	  "Finds the MPI libraries of the image by name and content, nothing of it is run: family, ABI, and by which of\n"
	  "Slurm's servers the ranks find each other. Status 1: they would not, each would start alone.",
	  "  vial mpi check solver.sif\n  vial mpi check --mpi pmi2 solver.sif\n",
	  .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_mpi_options, sizeof(struct cmd_mpi_opts), cmd_mpi_check_run) },
	{ "optimize", "IMAGE [--] PROGRAM [ARG...]", "Lay out an image for the start of a program",
	  "Runs the program and watches what it reads of the image. Then writes the image anew: what was read\n"
	  "comes first, in that order and uncompressed, so that a start reads little and in large pieces.\n"
	  "Files and their content stay what they are. Signatures do not hold any more and are left out.",
	  "  vial optimize app.sif python3 -c 'import numpy'\n  vial optimize -o fast.sif app.sif -- ./start --version\n",
	  .min_args = 2, .max_args = -1,
	  IMAGE(cmd_optimize_options, sizeof(struct cmd_optimize_opts), cmd_optimize_run) },
	{ "overlay create", "IMAGE", "Make an ext3 image for the changes of containers",
	  "A new file for --overlay, or a partition in the SIF IMAGE, which --writable then changes.\n"
	  "Takes mke2fs (package e2fsprogs); containers need fuse2fs and fuse-overlayfs to use it.",
	  "  vial overlay create --size 1024 changes.img\n  vial exec --overlay changes.img app.sif sh\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_overlay_create_opts, sizeof(struct cmd_overlay_opts), cmd_overlay_create_run) },
	{ "policy check", "IMAGE", "Tell whether policy lets an image start, and why",
	  "Shows what is known of the image, and rule by rule which conditions hold and which one decides; file and\n"
	  "line of each. Nothing is started. Exit status: 0 it may start, 1 it is denied, 2 something went wrong.",
	  "  vial policy check app.sif\n  vial policy check --use overlay changes.img\n  vial policy check --json app.sif\n",
	  .min_args = 1, .max_args = 1, .interspersed = true, .usage_status = 2,
	  RUN(cmd_policy_check_opts, sizeof(struct cmd_policy_opts), cmd_policy_check_run) },
	{ "policy facts", "IMAGE", "Show what a policy may ask about an image",
	  "Its signers, and what their signatures cover, with the keys of the site and of the user; its source and\n"
	  "objects. This is how a start of a container asks: in a process without privileges.",
	  "  vial policy facts app.sif\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  RUN(cmd_policy_facts_opts, sizeof(struct cmd_policy_facts_opts), cmd_policy_facts_run) },
	{ "policy show", "", "Show the rules of the site and of the user",
	  "In the order in which they are asked, with file and line.", "  vial policy show\n", .max_args = 0,
	  .interspersed = true,
	  RUN(cmd_policy_show_opts, sizeof(struct cmd_policy_opts), cmd_policy_show_run) },
	{ "pull", "[OUT.sif] URI", "Fetch an image and make a SIF of it",
	  "URI is docker://NAME[:TAG][@DIGEST], oras://HOST/NAME[:TAG], http(s)://..., or a local oci:DIR:TAG,\n"
	  "oci-archive:FILE, docker-archive:FILE. OUT is NAME_TAG.sif unless given.\n"
	  "An image is converted once and kept in the cache; every digest is checked.",
	  "  vial pull docker://python:3.12\n  vial pull tool.sif oras://registry.example.org/lab/tool:1.0\n",
	  .min_args = 1, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_pull_opts, sizeof(struct pull_opts), cmd_pull_run) },
	{ "push", "IMAGE URI", "Send an image to a registry",
	  "To oras://HOST/REPO:TAG the SIF goes as it is, which vial and Apptainer pull again. To\n"
	  "docker://HOST/REPO:TAG goes an OCI image for every other runtime: the SIF's root file system as\n"
	  "one layer, or the layers of oci:DIR:TAG, oci-archive:FILE or docker://NAME[:TAG] unchanged.\n"
	  "Signatures follow as referrers; they sign the SIF, also where an OCI image is made of it.",
	  "  vial push app.sif oras://registry.example.org/me/app:1.0\n"
	  "  vial push app.sif docker://registry.example.org/me/app:1.0\n"
	  "  vial push docker://python:3.12 docker://registry.example.org/me/python:3.12\n",
	  .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_push_options, sizeof(struct cmd_push_opts), cmd_push_run) },
	{ "record show", "[FILE|DIR|JOB]", "Show what was recorded of Slurm steps in containers",
	  "One record for each step and node: job, image, command, mounts, times, and how it ended. Those of the\n"
	  "site are in the directory that --dir or $VIAL_RECORDS names, and readable for whom the site lets.",
	  "  vial record show steps.jsonl\n  vial record show --dir /var/log/vial 4711\n  vial record show --json steps.jsonl\n",
	  .max_args = 1, .interspersed = true,
	  RUN(cmd_record_opts, sizeof(struct cmd_record_opts), cmd_record_show_run) },
	{ "registry login", "HOST", "Keep user name and password of a registry",
	  "The registry is asked first: a wrong password is not kept. The file is one that Podman, Docker\n"
	  "and Apptainer read too; a credential helper it names is used. HOST may be written docker://HOST.",
	  "  vial registry login ghcr.io\n  vial registry login -u me --password-stdin docker.io <token\n",
	  .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_login_opts, sizeof(struct cmd_registry_opts), cmd_login_run) },
	{ "registry logout", "HOST", "Forget user name and password of a registry", NULL,
	  "  vial registry logout ghcr.io\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_logout_opts, sizeof(struct cmd_registry_opts), cmd_logout_run) },
	{ "registry list", "", "List the registries whose credentials are known",
	  "Shows no password. The first line of a registry is the one that counts.", NULL, .max_args = 0,
	  IMAGE(cmd_registry_list_opts, sizeof(struct cmd_registry_opts), cmd_registry_list_run) },
	{ "run", "IMAGE [ARG...]", "Run what an image is made for",
	  "Starts the image's runscript with the arguments, or /bin/sh when there is none.",
	  "  vial run app.sif --help\n  ./app.sif --help\n",
	  .min_args = 1, .max_args = -1, ACTION(cmd_run_run) },
	{ "run-help", "IMAGE", "Print the help text of an image", NULL,
	  "  vial run-help app.sif\n  vial run-help --app NAME app.sif\n",
	  .min_args = 1, .max_args = 1, ACTION(cmd_run_help_run) },
	{ "sbom attach", "IMAGE FILE", "Put a bill of materials into a SIF image",
	  "FILE is CycloneDX or SPDX in JSON, or another format that --format names; - is standard input. The object\n"
	  "joins the group of the root file system: sign the image afterwards.",
	  "  vial sbom attach app.sif app.spdx.json\n", .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_sbom_attach_opts, sizeof(struct cmd_sbom_opts), cmd_sbom_attach_run) },
	{ "sbom create", "IMAGE", "List the packages in an image as a bill of materials",
	  "IMAGE is what exec takes. Finds packages of dpkg, rpm, apk and Python, and prints the list. Nothing of the\n"
	  "image is run.",
	  "  vial sbom create app.sif >app.spdx.json\n  vial sbom create --attach --format cyclonedx-json app.sif\n",
	  .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_sbom_create_opts, sizeof(struct cmd_sbom_opts), cmd_sbom_create_run) },
	{ "sbom show", "IMAGE", "Print the bill of materials in a SIF image", NULL,
	  "  vial sbom show app.sif\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_sbom_show_opts, sizeof(struct cmd_sbom_opts), cmd_sbom_show_run) },
	{ "seccomp", "FILE", "Check a seccomp profile and show what it does",
	  "FILE is a profile in the form of OCI and docker, as `exec --security seccomp:FILE` takes it. Prints the\n"
	  "filter that is made of it for this machine, call by call.",
	  "  vial seccomp profile.json\n  vial seccomp --caps sys_admin profile.json\n",
	  .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_seccomp_opts, sizeof(struct cmd_seccomp_opts), cmd_seccomp_run) },
	{ "shell", "IMAGE", "Open a shell in a container", NULL,
	  "  vial shell app.sif\n  vial shell --shell /bin/zsh app.sif\n",
	  .min_args = 1, .max_args = -1, ACTION(cmd_shell_run) },
	{ "sif header", "IMAGE", "Print the header of a SIF image", NULL,
	  NULL, .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_sif_show_opts, sizeof(struct cmd_sif_show_opts), cmd_sif_header_run) },
	{ "sif list", "IMAGE", "List the objects of a SIF image", NULL,
	  "  vial sif list app.sif\n  vial sif list --json app.sif\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_sif_show_opts, sizeof(struct cmd_sif_show_opts), cmd_sif_list_run) },
	{ "sif info", "ID IMAGE", "Print all fields of one object", NULL,
	  NULL, .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_sif_show_opts, sizeof(struct cmd_sif_show_opts), cmd_sif_info_run) },
	{ "sif dump", "ID IMAGE", "Write the data of one object to standard output", NULL,
	  "  vial sif dump 2 app.sif >metadata.json\n", .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(NULL, 0, cmd_sif_dump_run) },
	{ "sif new", "IMAGE", "Make an empty SIF image", NULL,
	  NULL, .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_sif_new_opts, sizeof(struct cmd_sif_new_opts), cmd_sif_new_run) },
	{ "sif add", "IMAGE FILE", "Add a file to a SIF image as an object", "Without --groupid the object is in no group, and no signature can cover it.",
	  "  vial sif add app.sif notes.txt --datatype 7 --groupid 1\n  vial sif add app.sif root.squashfs --datatype 4 --parttype 2 --partfs 1 --partarch 2 --groupid 1\n", .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(cmd_sif_add_opts, sizeof(struct cmd_sif_add_opts), cmd_sif_add_run) },
	{ "sif del", "ID IMAGE", "Delete an object from a SIF image", "The object leaves the table; its bytes stay in the file until something takes their place.",
	  NULL, .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(NULL, 0, cmd_sif_del_run) },
	{ "sif setprim", "ID IMAGE", "Make a system partition the primary one", NULL,
	  NULL, .min_args = 2, .max_args = 2, .interspersed = true,
	  IMAGE(NULL, 0, cmd_sif_setprim_run) },
	{ "sign", "IMAGE", "Sign an image with a private key",
	  "Adds one signature per object group; all objects of the group are covered. Without --key the one\n"
	  "private key of the keyring signs. Signing again adds another signature, by whomever.\n"
	  "The image is changed in place: stopped at any moment, it is as before or signed.",
	  "  vial sign app.sif\n  vial sign --key me.pem app.sif\n  vial sign --key 'pkcs11:token=site;object=release' app.sif\n", .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_sign_opts, sizeof(struct cmd_sign_opts), cmd_sign_run) },
	{ "test", "IMAGE [ARG...]", "Run the test an image brings along", NULL,
	  NULL, .min_args = 1, .max_args = -1, ACTION(cmd_test_run) },
	{ "umount", "DIR...", "Take away what vial mount put on a directory", NULL,
	  "  vial umount /mnt\n  vial umount --lazy /mnt\n  vial umount --all\n",
	  .max_args = -1, .interspersed = true,
	  RUN(cmd_umount_opts, sizeof(struct cmd_umount_opts), cmd_umount_run) },
	{ "verify", "IMAGE", "Verify an image's signatures",
	  "Succeeds when every object is covered by a valid signature and nothing was changed, added or removed\n"
	  "since. With --key or --certificate every signature must be by one of these; without, one by a signer whom\n"
	  "the keyring trusts is enough, and the others are shown.",
	  "  vial verify app.sif\n  vial verify --key me.pub.pem app.sif\n  vial verify --key them.asc app.sif\n",
	  .min_args = 1, .max_args = 1, .interspersed = true,
	  IMAGE(cmd_verify_opts, sizeof(struct cmd_verify_opts), cmd_verify_run) },
	{ "version", "", "Print the version number", NULL, NULL, .max_args = 0, RUN(NULL, 0, cmd_version_run) },
};
/* clang-format on */
const size_t n_commands = VL_COUNT(commands);

/* Two words first ("sif list"), then one. */
const struct cmd *cmd_find(const char *word1, const char *word2, int *ret_words)
{
	VL_FREE char *both = vl_asprintf("%s %s", word1, word2 ? word2 : "");

	for (int words = 2; words >= 1; words--)
		for (size_t i = 0; i < n_commands; i++)
			if (vl_streq(commands[i].name, words == 2 ? both : word1)) {
				*ret_words = words;
				return &commands[i];
			}
	return NULL;
}
