//! Which cells there are: not every combination of everything, but
//!
//! - every client with every server, for everything that users do, over a leg that changes from cell to cell,
//! - every client over every leg that it can have, for a file up, a listing and the file down, with servers that change,
//! - every client with two servers for 500 files in parallel, which would take longer than all the rest with every one.
//!
//! What depends on three things at once (say, tnftp renaming on Pure-FTPd in active mode) isn't covered: Portcullis
//! keeps its two legs apart, so that pairs are where it can go wrong. The tests below say which pairs are met.

use crate::action::Action;
use crate::cell::Cell;
use crate::client::Client;
use crate::expectation;
use crate::leg::Leg;
use crate::server::Kind;

/// Why a cell is there; each stands in a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Every client with every server.
    Pair,
    /// Every client over every leg.
    Leg,
    /// 500 files.
    Tree,
}

/// Every cell, the longest ones first, so that none is left to run alone.
pub fn cells() -> Vec<(Purpose, Cell)> {
    [trees(), pairs(), legs()].concat()
}

fn trees() -> Vec<(Purpose, Cell)> {
    let mut cells = Vec::new();
    for (number, client) in Client::ALL.into_iter().enumerate() {
        let legs = working_legs(client);
        for step in [0, 5] {
            let cell = Cell {
                client,
                server: Kind::ALL[(2 * number + step) % Kind::ALL.len()],
                leg: legs[(7 * number + step) % legs.len()],
                actions: &[Action::Tree],
            };
            cells.push((Purpose::Tree, cell));
        }
    }
    cells
}

fn pairs() -> Vec<(Purpose, Cell)> {
    let mut cells = Vec::new();
    for (number, client) in Client::ALL.into_iter().enumerate() {
        let legs = working_legs(client);
        for (step, server) in Kind::ALL.into_iter().enumerate() {
            let cell = Cell {
                client,
                server,
                leg: legs[(3 * number + 7 * step) % legs.len()],
                actions: &Action::EVERYWHERE,
            };
            cells.push((Purpose::Pair, cell));
        }
    }
    cells
}

fn legs() -> Vec<(Purpose, Cell)> {
    let mut cells = Vec::new();
    for (number, client) in Client::ALL.into_iter().enumerate() {
        for (step, leg) in client.legs().into_iter().enumerate() {
            let cell = Cell {
                client,
                server: Kind::ALL[(number + step) % Kind::ALL.len()],
                leg,
                actions: &[Action::RoundTrip],
            };
            cells.push((Purpose::Leg, cell));
        }
    }
    cells
}

/// A few of them: every server and every client in one at least.
pub fn sample() -> Vec<(Purpose, Cell)> {
    let chosen = |cell: &Cell| {
        (0..Kind::ALL.len().max(Client::ALL.len())).any(|number| {
            cell.server == Kind::ALL[number % Kind::ALL.len()]
                && cell.client == Client::ALL[number % Client::ALL.len()]
        })
    };
    let mut cells = pairs();
    cells.retain(|(_, cell)| chosen(cell));
    cells
}

fn working_legs(client: Client) -> Vec<Leg> {
    let mut legs = client.legs();
    legs.retain(|leg| expectation::cannot_over(client, *leg).is_none());
    legs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leg::{Family, Protection};
    use testkit::clients::DataMode;

    fn met(wanted: impl Fn(&Cell) -> bool) -> bool {
        cells().iter().any(|(_, cell)| wanted(cell))
    }

    #[test]
    fn every_server_meets_every_kind_of_leg() {
        for server in Kind::ALL {
            for protection in Protection::ALL {
                assert!(
                    met(|cell| cell.server == server && cell.leg.protection == protection),
                    "{server} {protection}"
                );
            }
            for data in [DataMode::Pasv, DataMode::Epsv, DataMode::Active] {
                assert!(
                    met(|cell| cell.server == server && cell.leg.data == data),
                    "{server} {data:?}"
                );
            }
            for family in [Family::V4, Family::V6] {
                assert!(
                    met(|cell| cell.server == server && cell.leg.family == family),
                    "{server} {family:?}"
                );
            }
        }
    }

    #[test]
    fn every_server_meets_a_tree_in_parallel() {
        for server in Kind::ALL {
            assert!(
                met(|cell| cell.server == server && cell.actions == [Action::Tree]),
                "{server}"
            );
        }
    }

    #[test]
    fn the_sample_has_every_client_and_every_server_in_few_cells() {
        let sample = sample();
        assert_eq!(sample.len(), Kind::ALL.len().max(Client::ALL.len()));
        let has = |wanted: &dyn Fn(&Cell) -> bool| sample.iter().any(|(_, cell)| wanted(cell));
        for client in Client::ALL {
            assert!(has(&|cell| cell.client == client), "{client}");
        }
        for server in Kind::ALL {
            assert!(has(&|cell| cell.server == server), "{server}");
        }
    }

    #[test]
    fn no_cell_is_there_twice() {
        let cells = cells();
        for (number, (purpose, cell)) in cells.iter().enumerate() {
            let again = cells[..number].iter().any(|(other, before)| {
                other == purpose
                    && before.client == cell.client
                    && before.server == cell.server
                    && before.leg == cell.leg
            });
            assert!(!again, "{cell}");
        }
    }
}
