//! What this program was built from.
//!
//! Owns the facts that the build leaves in the program. A build that is told nothing leaves empty texts. Start reading at [`BUILD`].

/// Facts about the build.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Name of the program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Commit (`GIT_COMMIT` in the environment of the build).
    pub commit: &'static str,
    /// Branch (`GIT_BRANCH`).
    pub branch: &'static str,
    /// Time of the build in seconds since the Unix epoch, as text (`SOURCE_DATE_EPOCH`).
    pub time: &'static str,
    /// Who built it (`BUILD_USER`).
    pub user: &'static str,
    /// Where (`BUILD_HOST`).
    pub host: &'static str,
}

/// This build.
pub const BUILD: Build = Build {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    commit: given(option_env!("GIT_COMMIT")),
    branch: given(option_env!("GIT_BRANCH")),
    time: given(option_env!("SOURCE_DATE_EPOCH")),
    user: given(option_env!("BUILD_USER")),
    host: given(option_env!("BUILD_HOST")),
};

const fn given(text: Option<&'static str>) -> &'static str {
    match text {
        Some(text) => text,
        None => "",
    }
}
