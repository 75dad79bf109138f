# make install-tools | install-host | install-server | install-collector [DESTDIR=DIR]
#
# Installs a role of labtools where labtools(7) expects it; scripts/build-packages makes Debian packages of the same.
# install-tools takes the programs from target/release (cargo build --release --locked --workspace), or from DIR with BIN=DIR.
# Each of the others is a role of a machine, and needs the tools. Then make its users, and enable the units that it needs:
#     systemd-sysusers && systemctl daemon-reload
# There is no PREFIX: units, and scripts that call each other by ssh, name /usr.
DESTDIR =
BIN = target/release
unitdir = /usr/lib/systemd/system

TOOLS = abflip cowvol invcollect mkimg-torrent nm-8021x-login seedctl vm-passthrough
lib = $(DESTDIR)/usr/lib/labtools
etc = $(DESTDIR)/etc/labtools
doc = $(DESTDIR)/usr/share/doc
completions = $(DESTDIR)/usr/share/bash-completion/completions

PROGRAM = install -D -m 755 -t
FILE = install -D -m 644 -t
DIRECTORY = install -d -m

# What is in a folder and can be run.
scripts = $(shell find scripts/$(1) -maxdepth 1 -type f -perm -u+x)

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

install-tools:
	$(PROGRAM) $(DESTDIR)/usr/bin $(TOOLS:%=$(BIN)/%)
	$(FILE) $(DESTDIR)/usr/share/man/man5 man/*.5
	$(FILE) $(DESTDIR)/usr/share/man/man7 man/*.7
	$(FILE) $(DESTDIR)/usr/share/man/man8 man/*.8
	$(FILE) $(etc) scripts/host/etc/models.ini
	install -D -m 644 scripts/dev/completions.bash $(completions)/abflip
	for tool in $(filter-out abflip,$(TOOLS)); do ln -sf abflip $(completions)/$$tool; done

install-host:
	$(PROGRAM) $(lib) $(filter-out %/network-changed,$(call scripts,host))
	$(PROGRAM) $(lib)/greeter scripts/host/greeter/greeter
	$(FILE) $(lib)/greeter $(wildcard scripts/host/greeter/*.qml scripts/host/greeter/*.js)
	$(FILE) $(lib)/greeter/themes/labtools scripts/host/greeter/themes/labtools/*
	$(FILE) $(DESTDIR)$(unitdir) scripts/host/*.service scripts/host/*.timer scripts/host/*.mount
	install -D -m 644 scripts/host/labtools-inventory.cron $(DESTDIR)/etc/cron.d/labtools-inventory
	install -D -m 644 scripts/host/labtools.logrotate $(DESTDIR)/etc/logrotate.d/labtools
	install -D -m 755 scripts/host/network-changed $(DESTDIR)/etc/NetworkManager/dispatcher.d/no-wait.d/90-labtools
	ln -sf no-wait.d/90-labtools $(DESTDIR)/etc/NetworkManager/dispatcher.d/90-labtools
	install -D -m 644 -t $(DESTDIR)/etc/NetworkManager/conf.d scripts/host/network-manager/labtools.conf
	install -D -m 600 -t $(DESTDIR)/etc/NetworkManager/system-connections scripts/host/network-manager/labtools-confined.nmconnection
	install -D -m 644 scripts/host/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/labtools-host.conf
	$(FILE) $(etc) $(filter-out %/models.ini,$(wildcard scripts/host/etc/*))
	$(DIRECTORY) 755 $(etc)/keys $(etc)/realms.d $(etc)/health.d
	$(DIRECTORY) 755 $(DESTDIR)/var/lib/labtools $(DESTDIR)/qcow2/backing $(DESTDIR)/hugepages
	$(DIRECTORY) 700 $(DESTDIR)/var/log/labtools $(DESTDIR)/qcow2/user
	$(FILE) $(doc)/labtools-host/examples/logs scripts/host/logs/*

install-server:
	$(PROGRAM) $(lib) $(call scripts,server) scripts/host/update-host
	$(PROGRAM) $(lib)/host-image $(call scripts,server/host-image)
	$(FILE) $(lib)/host-image scripts/server/host-image/*.bash
	$(PROGRAM) $(lib)/guest-linux $(call scripts,server/guest-linux)
	$(FILE) $(lib)/guest-linux/modules scripts/server/guest-linux/modules/*.bash
	$(FILE) $(lib)/root-image scripts/server/root-image/*.bash
	$(FILE) $(lib)/guest-windows scripts/server/guest-windows/*
	$(FILE) $(DESTDIR)$(unitdir) scripts/server/labtools-tracker.service scripts/host/labtools-seed.service
	install -D -m 644 scripts/server/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/labtools-server.conf
	$(FILE) $(etc) scripts/host/etc/seedctl.ini
	$(DIRECTORY) 755 $(etc)/keys
	$(DIRECTORY) 755 $(DESTDIR)/var/lib/labtools $(DESTDIR)/qcow2/backing

install-collector:
	$(PROGRAM) $(lib) scripts/collector/collector scripts/dev/install-packages
	$(FILE) $(lib) $(filter-out scripts/collector/collector %.test.yml,$(wildcard scripts/collector/*))
	$(DIRECTORY) 755 $(etc)

.PHONY: help install-tools install-host install-server install-collector
