//! Build information, read from environment variables at build time. Unset variables become empty strings.

/// Version of the program, and information about its build.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Program name.
    pub name: &'static str,
    /// Program version.
    pub version: &'static str,
    /// Git commit, from `GIT_COMMIT`.
    pub commit: &'static str,
    /// Git branch, from `GIT_BRANCH`.
    pub branch: &'static str,
    /// Build time in seconds since the Unix epoch, from `SOURCE_DATE_EPOCH`.
    pub time: &'static str,
    /// User who built the program, from `BUILD_USER`.
    pub user: &'static str,
    /// Host on which the program was built, from `BUILD_HOST`.
    pub host: &'static str,
}

/// Build information of this program.
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
