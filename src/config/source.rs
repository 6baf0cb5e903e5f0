//! Where a configuration comes from: its file, and what the command line says in place of it.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::{Error, Settings, load, passive, scalar};

/// A configuration file, and what counts in place of what it says.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// What instances that share the file do not have in common.
    pub overrides: Overrides,
}

/// What counts in place of what the file says; by default nothing does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The ports that are announced to every client: behind a balancer they lead to this instance and to no other.
    pub announced_ports: Option<RangeInclusive<u16>>,
}

impl Source {
    /// Reads the file, and puts the overrides in place of what it says.
    ///
    /// # Errors
    /// Those of [`load`]; if what is to be in place of the file's doesn't fit the rest of it.
    pub fn load(&self) -> Result<Settings, Error> {
        let mut settings = load(&self.file)?;
        if let Some(announced) = &self.overrides.announced_ports {
            self.announce(announced, &mut settings)?;
        }
        Ok(settings)
    }

    fn announce(
        &self,
        announced: &RangeInclusive<u16>,
        settings: &mut Settings,
    ) -> Result<(), Error> {
        let passive = &mut settings.passive;
        if let Some(misfit) = passive::misfit(announced, &passive.ports) {
            return Err(Error::AnnouncedPorts {
                path: self.file.clone(),
                announced: announced.clone(),
                message: misfit.message,
                help: misfit.help,
            });
        }
        let rules = passive.by_client.iter_mut().map(|rule| &mut rule.announced);
        for one in rules.chain([&mut passive.announced]) {
            one.ports = Some(announced.clone());
        }
        Ok(())
    }
}

/// Reads one port, or a range such as 50000-50063, as the file has them.
///
/// # Errors
/// Why it is none, and what to write instead.
pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    scalar::port_range(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Announced;

    const REST: &str = "listeners: [{address: 0.0.0.0:21, tls: explicit}]\n\
                        tls: {certificate: a.crt, private_key: a.key}\n\
                        sites: [{name: a, default: true, backends: [{address: 10.0.0.1:21}]}]\n";

    fn load(passive: &str, announced: RangeInclusive<u16>) -> Result<Settings, Error> {
        let directory = tempfile::tempdir().expect("a folder");
        let file = directory.path().join("p.yaml");
        fs::write(&file, format!("{REST}passive: {passive}\n")).expect("written");
        let source = Source {
            file,
            overrides: Overrides {
                announced_ports: Some(announced),
            },
        };
        source.load()
    }

    #[test]
    fn the_ports_of_the_command_line_are_announced_to_every_client_in_place_of_the_files() {
        let rules = "by_client: [{networks: [10.0.0.0/8], address: control, announced_ports: 60000}, \
                     {networks: [192.0.2.0/24], address: control}]";
        let passive = format!("{{ports: 30000, announced_ports: 61000, {rules}}}");
        let settings = load(&passive, 50_001..=50_001).expect("it fits");
        let passive = settings.passive;
        assert_eq!(passive.ports, 30_000..=30_000);
        let is_overridden = |announced: &Announced| announced.ports == Some(50_001..=50_001);
        assert!(is_overridden(&passive.announced));
        assert_eq!(passive.by_client.len(), 2);
        assert!(
            passive
                .by_client
                .iter()
                .all(|rule| is_overridden(&rule.announced))
        );
    }

    #[test]
    fn ports_that_do_not_fit_those_of_the_file_are_refused_in_the_name_of_the_option() {
        for (passive, announced, message) in [
            (
                "{ports: 30000-30001}",
                50_001..=50_001,
                ": --announced-ports 50001: not as many ports as `passive.ports` has (30000-30001): 1 instead of 2\n \
                 = write 50001-50002",
            ),
            (
                "{ports: 0}",
                50_001..=50_001,
                ": --announced-ports 50001: the operating system chooses which port is listened on, so none can be \
                 announced for it\n = give `passive.ports` other numbers than 0",
            ),
            (
                "{ports: 30000}",
                0..=0,
                ": --announced-ports 0: no client can connect to port 0\n = write the ports that clients connect to",
            ),
        ] {
            let error = load(passive, announced).expect_err("it doesn't fit");
            let text = error.to_string();
            assert!(text.ends_with(message), "{text}");
            let summary = error.summary();
            assert!(
                summary.contains("p.yaml: --announced-ports") && !summary.contains('\n'),
                "{summary}"
            );
        }
    }
}
