//! Keys of hosts, read from files: `<directory>/<Secret's name>/<key's name>`, as kubelet mounts Secrets.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::authentication::Credentials;
use crate::authentication::key::Key;
use crate::subsystem::authentication::{DhchapSpec, LoadedKeys};
use crate::subsystem::spec::NodeSpec;

/// The host's key in its Secret.
const HOST_KEY: &str = "hostKey";
/// The controller's own key, to prove to this host who it is.
const CONTROLLER_KEY: &str = "controllerKey";

/// Bytes of a file that are read at most: a key has about a hundred.
const FILE_BYTES_MAX: u64 = 4096;

/// Reads the keys of every host that must authenticate itself. What is wrong is noted where the keys would be.
pub fn load(spec: &mut NodeSpec, directory: Option<&Path>) {
    let hosts = spec
        .subsystems
        .iter_mut()
        .flat_map(|subsystem| &mut subsystem.access.hosts);
    for dhchap in hosts.filter_map(|host| host.dhchap.as_mut()) {
        dhchap.keys = match directory {
            Some(directory) => match credentials(dhchap, directory) {
                Ok(credentials) => LoadedKeys::Loaded(Arc::new(credentials)),
                Err(message) => LoadedKeys::Unusable(message),
            },
            None => LoadedKeys::Unusable(
                "the dataplane was given no directory of Secrets: start it with --secrets-directory".to_owned(),
            ),
        };
    }
}

fn credentials(dhchap: &DhchapSpec, directory: &Path) -> Result<Credentials, String> {
    let read = |key: &str, whose: &str| read_key(&directory.join(&dhchap.secret_ref.name), dhchap, key, whose);
    let controller_key = if dhchap.bidirectional {
        Some(read(CONTROLLER_KEY, "controller")?)
    } else {
        None
    };
    Ok(Credentials {
        hash: dhchap.hash.into(),
        group: dhchap.dh_group.group(),
        host_key: read(HOST_KEY, "host")?,
        controller_key,
    })
}

fn read_key(secret: &Path, dhchap: &DhchapSpec, key: &str, whose: &str) -> Result<Key, String> {
    let name = &dhchap.secret_ref.name;
    let mut text = Zeroizing::new(String::new());
    let outcome = File::open(secret.join(key)).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    match outcome {
        Ok(_) => Key::parse(&text).map_err(|error| {
            format!("key {key} of Secret {name} {error}; the host is refused until a valid key of the {whose} is there")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!(
            "Secret {name} is not there, or without the key {key}: add the {whose}'s key under that name \
             (nvme gen-dhchap-key makes one); the host is refused until then"
        )),
        Err(error) => Err(format!(
            "key {key} of Secret {name} cannot be read ({}); the host is refused until then",
            error.kind()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subsystem::spec::DesiredState;

    const KEY: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";

    fn spec(bidirectional: bool) -> NodeSpec {
        let text = serde_json::json!({"generation": 1, "spec": {
            "nodeName": "node-a",
            "target": "storage/fast",
            "listeners": [],
            "subsystems": [{"nqn": "nqn.2026-11.dev.weir:fast", "access": {"hosts": [
                {"nqn": "nqn.2026-11.dev.weir:host-a", "dhchap": {
                    "secretRef": {"name": "host-a"}, "hash": "SHA512", "dhGroup": "None", "bidirectional": bidirectional,
                }},
                {"nqn": "nqn.2026-11.dev.weir:host-b"},
            ]}}],
        }});
        serde_json::from_value::<DesiredState>(text).unwrap().spec
    }

    fn keys(spec: &NodeSpec) -> &LoadedKeys {
        &spec.subsystems[0].access.hosts[0].dhchap.as_ref().unwrap().keys
    }

    fn problem(spec: &NodeSpec) -> &str {
        match keys(spec) {
            LoadedKeys::Unusable(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_are_read_from_the_files_of_their_secret() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("host-a")).unwrap();
        std::fs::write(directory.path().join("host-a/hostKey"), format!("{KEY}\n")).unwrap();
        let mut one_way = spec(false);
        load(&mut one_way, Some(directory.path()));
        let LoadedKeys::Loaded(credentials) = keys(&one_way) else {
            panic!("{one_way:?}");
        };
        assert_eq!((credentials.group, &credentials.controller_key), (None, &None));

        let mut both_ways = spec(true);
        load(&mut both_ways, Some(directory.path()));
        assert!(problem(&both_ways).contains("Secret host-a is not there, or without the key controllerKey"));
        std::fs::write(directory.path().join("host-a/controllerKey"), KEY).unwrap();
        load(&mut both_ways, Some(directory.path()));
        assert!(matches!(keys(&both_ways), LoadedKeys::Loaded(both) if both.controller_key.is_some()));
    }

    #[test]
    fn what_is_wrong_names_secret_and_key_and_never_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut spec = spec(false);
        load(&mut spec, Some(directory.path()));
        assert!(problem(&spec).contains("Secret host-a is not there, or without the key hostKey"));
        std::fs::create_dir(directory.path().join("host-a")).unwrap();
        std::fs::write(directory.path().join("host-a/hostKey"), "DHHC-1:00:c2VjcmV0:").unwrap();
        load(&mut spec, Some(directory.path()));
        assert!(problem(&spec).contains("wrong length") && !problem(&spec).contains("c2VjcmV0"));
        load(&mut spec, None);
        assert!(problem(&spec).contains("--secrets-directory"));
    }
}
