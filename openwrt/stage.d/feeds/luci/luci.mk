# SPDX-License-Identifier: GPL-3.0-or-later
# Stands for the luci feed's luci.mk when openwrt/stage runs: one package, of the directories htdocs/ and root/.

include $(INCLUDE_DIR)/package.mk

define Package/$(PKG_NAME)
  TITLE := $(LUCI_TITLE)
  DEPENDS := $(LUCI_DEPENDS)
  PKGARCH := $(LUCI_PKGARCH)
endef

define Package/$(PKG_NAME)/install
	if [ -d $(CURDIR)/htdocs ]; then $(INSTALL_DIR) $(1)/www; $(CP) $(CURDIR)/htdocs/* $(1)/www/; fi
	if [ -d $(CURDIR)/root ]; then $(CP) $(CURDIR)/root/* $(1)/; fi
endef

$(eval $(call BuildPackage,$(PKG_NAME)))
