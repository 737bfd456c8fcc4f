# SPDX-License-Identifier: GPL-3.0-or-later
# Stands for OpenWrt's rules.mk when openwrt/stage runs: the install commands, with the modes that they have there.

INCLUDE_DIR := $(TOPDIR)/include
PKG_BUILD_DIR = $(STAGE_WORK)/$(PKG_NAME)/build
PKG_INSTALL_DIR = $(STAGE_WORK)/$(PKG_NAME)/install

INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600
CP := cp -fpR
LN := ln -sf

# A package that says nothing else has nothing to prepare and nothing to compile.
define Build/Prepare
	$(INSTALL_DIR) $(PKG_BUILD_DIR)
endef

define Build/Compile
endef
