//! Differences between the settings of a running agent and newly read settings.

use super::{DriftSettings, Settings};

/// Names of changed settings, as in the configuration file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings that can change while the agent runs.
    pub at_once: Vec<&'static str>,
    /// Settings that take effect at the next start of the agent. `etcd_*` stands for all settings of the store, and `http_*` for all
    /// settings of the APIs.
    pub at_start: Vec<&'static str>,
}

impl Changes {
    /// Compares the settings of a running agent with new ones.
    pub fn between(running: &Settings, new: &Settings) -> Self {
        let Settings {
            microservice_label,
            etcd,
            embedded_listen,
            embedded_quota,
            data_dir,
            on_store_loss,
            http,
            grpc_listen,
            docker_socket,
            initial_config,
            drift,
            history,
            keep_privileges,
            log,
        } = new;
        let DriftSettings {
            watched_max,
            sweep_interval,
            policy,
            foreign_addresses,
        } = drift;
        let at_once = [
            ("sweep_interval", running.drift.sweep_interval != *sweep_interval),
            ("foreign_addresses", running.drift.foreign_addresses != *foreign_addresses),
            ("history_age", running.history.age != history.age),
            ("history_max", running.history.transactions != history.transactions),
            ("log", running.log != *log),
        ];
        let at_start = [
            ("microservice_label", running.microservice_label != *microservice_label),
            ("etcd_*", running.etcd != *etcd),
            ("embedded_listen", running.embedded_listen != *embedded_listen),
            ("embedded_quota", running.embedded_quota != *embedded_quota),
            ("data_dir", running.data_dir != *data_dir),
            ("on_store_loss", running.on_store_loss != *on_store_loss),
            ("http_*", running.http != *http),
            ("grpc_listen", running.grpc_listen != *grpc_listen),
            ("docker_host", running.docker_socket != *docker_socket),
            ("initial_config", running.initial_config != *initial_config),
            ("watched_max", running.drift.watched_max != *watched_max),
            ("drift_policy", running.drift.policy != *policy),
            ("keep_privileges", running.keep_privileges != *keep_privileges),
        ];
        Changes {
            at_once: changed(&at_once),
            at_start: changed(&at_start),
        }
    }
}

fn changed(settings: &[(&'static str, bool)]) -> Vec<&'static str> {
    settings.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect()
}

impl Settings {
    /// Copies from `new` the settings that can change while the agent runs.
    pub fn adopt(&mut self, new: &Settings) {
        self.drift.sweep_interval = new.drift.sweep_interval;
        self.drift.foreign_addresses = new.drift.foreign_addresses;
        self.history = new.history;
        self.log.clone_from(&new.log);
    }
}
