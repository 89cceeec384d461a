//! What of a configuration is read at the start only.

use super::Config;

impl Config {
    /// Takes what a running server cannot change from the configuration that it has; returns the keys that are different, as
    /// in `[server] listen`.
    pub(crate) fn keep_fixed(&mut self, running: &Self) -> Vec<&'static str> {
        let mut different = Vec::new();
        macro_rules! keep {
            ($($name:literal: $($field:ident).+),+ $(,)?) => {
                $(if self.$($field).+ != running.$($field).+ {
                    different.push($name);
                    self.$($field).+.clone_from(&running.$($field).+);
                })+
            };
        }
        keep! {
            "[server] listen": server.listen,
            "[server] max_connections": server.max_connections,
            "[server] header_timeout": server.header_timeout,
            "[server] keep_alive": server.keep_alive,
            "[log] format": log.format,
            "[admin] listen": admin.listen,
            "[admin] mask": admin.mask,
            "[journal] url": journal.url,
            "[journal] retention": journal.retention,
            "[journal] max_size": journal.max_size,
            "[journal] memory_limit": journal.memory_limit,
        }
        different
    }
}
