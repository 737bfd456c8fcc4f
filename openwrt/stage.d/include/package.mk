# SPDX-License-Identifier: GPL-3.0-or-later
# Stands for OpenWrt's package.mk when openwrt/stage runs. It leaves, for each package, the files of its install section
# in packages/NAME/root, and beside them what its Makefile says of it.

STAGED :=

# Packages of Python sources are left out: no router needs them.
define BuildPackage
STAGED += $(filter-out %-src,$(1))
$(if $(filter-out %-src,$(1)),$(call control,$(1)))
endef

define control
DEPENDS :=
PROVIDES :=
CONFLICTS :=
PKGARCH :=
$(Package/$(1))
CONTROL/$(1) := Package: $(1)$$(newline)Version: $(PKG_VERSION)-$(PKG_RELEASE)$$(newline)Depends: $$(DEPENDS)$$(newline)Provides: $$(PROVIDES)$$(newline)Conflicts: $$(CONFLICTS)$$(newline)Architecture: $$(PKGARCH)$$(newline)
endef

define newline


endef

PACKAGE_DIR = $(STAGE_WORK)/packages/$(1)

.PHONY: stage directories control
stage: directories
	$(call Build/Prepare)
	$(call Build/Compile)
	$(foreach package,$(STAGED),$(call stage_package,$(package)))

directories:
	$(INSTALL_DIR) $(PKG_INSTALL_DIR) $(foreach package,$(STAGED),$(call PACKAGE_DIR,$(package))/root)

define stage_package
	$(call Package/$(1)/install,$(call PACKAGE_DIR,$(1))/root)
	$(file >$(call PACKAGE_DIR,$(1))/control,$(CONTROL/$(1)))
	$(file >$(call PACKAGE_DIR,$(1))/conffiles,$(Package/$(1)/conffiles))
	$(file >$(call PACKAGE_DIR,$(1))/postinst-pkg,$(subst $$$$,$$,$(value Package/$(1)/postinst)))
	$(file >$(call PACKAGE_DIR,$(1))/prerm-pkg,$(subst $$$$,$$,$(value Package/$(1)/prerm)))
	$(file >$(call PACKAGE_DIR,$(1))/postrm,$(subst $$$$,$$,$(value Package/$(1)/postrm)))

endef

# What the Makefile says of its packages, for tests.
control:
	@:$(foreach package,$(STAGED),$(info $(CONTROL/$(package))))
