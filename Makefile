# Thin calls: everything is in `cargo xtask` (xtask/), started through a script that finds or installs Rust.
XTASK := ./xtask/bootstrap.sh

# make run ISO=file.iso DISK=disk.img MEMORY=1024 VCPUS=2 BACKEND=vmx ARGS="--smp 2 --headless"
run: ; @$(XTASK) run $(if $(BACKEND),--backend $(BACKEND)) $(if $(ISO),--iso "$(ISO)") $(if $(DISK),--host-disk "$(DISK)") $(if $(MEMORY),--memory $(MEMORY)) $(if $(VCPUS),--vcpus $(VCPUS)) $(ARGS)
test: ; @$(XTASK) test
test-full: ; @$(XTASK) test --full && $(XTASK) test --full --cpu EPYC --only svm:: && $(XTASK) check-release trixie
test-guests: ; @$(XTASK) test-guests $(if $(BACKEND),--backend $(BACKEND)) $(if $(DIR),"$(DIR)") $(ARGS)
image: ; @$(XTASK) image $(if $(ISO),--iso "$(ISO)") $(ARGS)
fuzz: ; @$(XTASK) fuzz $(ARGS)
bench: ; @$(XTASK) bench $(if $(BACKEND),--backend $(BACKEND)) $(ARGS)
clean: ; rm -rf build target

help:
	@echo "make run [ISO=file.iso] [MEMORY=MiB]   boot a guest under Bulkhead in QEMU; BACKEND=vmx: in Bochs; VCPUS=N"
	@echo "         [DISK=disk.img]               ... with a disk of the machine that it keeps what it writes on"
	@echo "make test                              formatting, lints, unit tests and whole-system tests"
	@echo "make test-full                         the slow ones too, AMD-V with -cpu EPYC, and a fresh Debian 13"
	@echo "make test-guests DIR=folder            every ISO of a folder with a manifest; BACKEND=vmx: in Bochs"
	@echo "make image [ISO=file.iso]              build/bulkhead.iso, for CD, USB stick or disk, BIOS or UEFI"
	@echo "make fuzz [ARGS=\"--seconds 600\"]       fuzz the devices, the emulator, the parsers"
	@echo "make bench [BACKEND=vmx]               instructions, CPU time and exits; writes docs/performance.md"
	@echo "make clean                             remove everything built"
	@echo "More: cargo xtask --help, docs/running.md"

.PHONY: run test test-full test-guests image fuzz bench clean help
.DEFAULT_GOAL := help
