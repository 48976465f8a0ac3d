# Installation: program, libraries, header, pkg-config file, CMake package, manual page, completions, licence.
# Nothing installed names the prefix, so the tree may be moved and `cmake --install --prefix` may choose another one.
include(CMakePackageConfigHelpers)

install(TARGETS tandem_static tandem_shared EXPORT tandemTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/tandem.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE README.md CHANGES.md DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)

# ---- pkg-config -----------------------------------------------------------------------------------------------------
file(RELATIVE_PATH pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
configure_file(cmake/tandem.pc.in ${PROJECT_BINARY_DIR}/tandem.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/tandem.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# ---- CMake package --------------------------------------------------------------------------------------------------
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/tandem)
install(EXPORT tandemTargets NAMESPACE tandem:: DESTINATION ${package})
configure_package_config_file(cmake/tandemConfig.cmake.in ${PROJECT_BINARY_DIR}/tandemConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tandemConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tandemConfig.cmake ${PROJECT_BINARY_DIR}/tandemConfigVersion.cmake DESTINATION ${package})

# ---- program, manual, completions -----------------------------------------------------------------------------------
# The built program prints the manual and the completions from its tables of commands and options.
if(TARGET tandem_cli)
  install(TARGETS tandem_cli DESTINATION ${CMAKE_INSTALL_BINDIR})
  if(NOT CMAKE_CROSSCOMPILING)
    set(share ${PROJECT_BINARY_DIR}/share)
    file(MAKE_DIRECTORY ${share})
    add_custom_command(OUTPUT ${share}/tandem.1 ${share}/tandem.bash ${share}/_tandem ${share}/tandem.fish
      COMMAND tandem_cli man > ${share}/tandem.1
      COMMAND tandem_cli completion bash > ${share}/tandem.bash
      COMMAND tandem_cli completion zsh > ${share}/_tandem
      COMMAND tandem_cli completion fish > ${share}/tandem.fish
      DEPENDS tandem_cli COMMENT "Writing the manual and the completions" VERBATIM)
    add_custom_target(tandem_documents ALL DEPENDS ${share}/tandem.1)
    install(FILES ${share}/tandem.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    install(FILES ${share}/tandem.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME tandem)
    install(FILES ${share}/_tandem DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
    install(FILES ${share}/tandem.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
  endif()
endif()
