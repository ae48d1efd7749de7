//! The views that servers print, and what must hold of them.

use std::collections::{BTreeMap, BTreeSet};

use lock_rsm::rsm::View;

/// The lines `view N members A B C master A` of a server's output.
pub fn printed(output: &str) -> Vec<View> {
    output.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<View> {
    let (number, rest) = line.strip_prefix("view ")?.split_once(" members ")?;
    let (members, master) = rest.split_once(" master ")?;
    Some(View {
        number: number.parse().ok()?,
        members: members.split(' ').map(str::to_owned).collect(),
        master: Some(master.to_owned()),
    })
}

/// What must hold of the views printed by the servers, by address, whatever happened: numbers grow, a view has one master,
/// and every master is a member; and nobody adopts members that were never `agreed` on.
pub fn check(by_server: &BTreeMap<String, Vec<View>>, agreed: &[Vec<String>]) -> Result<(), String> {
    let agreed: BTreeSet<&Vec<String>> = agreed.iter().collect();
    let mut masters: BTreeMap<u64, &String> = BTreeMap::new();
    for (server, views) in by_server {
        if let Some(pair) = views.windows(2).find(|pair| pair[1].number < pair[0].number) {
            return Err(format!("{server} went from {} back to {}", pair[0], pair[1]));
        }
        for view in views {
            let Some(master) = &view.master else { continue };
            if !view.members.contains(master) {
                return Err(format!("{server} adopted {view}, whose master is no member"));
            }
            let known = masters.entry(view.number).or_insert(master);
            if *known != master {
                return Err(format!("view {} has two masters, {known} and {master}", view.number));
            }
            if !agreed.contains(&view.members) {
                return Err(format!("{server} adopted {view}, whose members were never agreed on"));
            }
        }
    }
    Ok(())
}

/// `views` without repetitions.
pub fn changes(views: impl IntoIterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let mut changes: Vec<Vec<String>> = views.into_iter().collect();
    changes.dedup();
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(line: &str) -> View {
        parse(line).unwrap()
    }

    fn members(list: &str) -> Vec<String> {
        list.split(' ').map(str::to_owned).collect()
    }

    fn one(server: &str, lines: &[&str]) -> BTreeMap<String, Vec<View>> {
        BTreeMap::from([(server.to_owned(), lines.iter().map(|line| view(line)).collect())])
    }

    #[test]
    fn lines_are_read_as_they_are_printed() {
        let line = "view 3 members a:1 b:2 master b:2";
        let output = format!("2026 INFO view of things\n{line}\nview x members y master z\n");
        let views = printed(&output);
        assert_eq!(views.iter().map(View::to_string).collect::<Vec<_>>(), [line]);
    }

    #[test]
    fn what_must_hold_is_noticed_when_it_does_not() {
        let agreed = [members("a:1"), members("a:1 b:2")];
        let fine = ["view 1 members a:1 master a:1", "view 1 members a:1 b:2 master a:1"];
        assert_eq!(check(&one("a:1", &fine), &agreed), Ok(()));
        let broken = [
            ["view 2 members a:1 master a:1", "view 1 members a:1 master a:1"],
            ["view 1 members a:1 master a:1", "view 1 members a:1 b:2 master b:2"],
            ["view 1 members a:1 master a:1", "view 2 members a:1 master b:2"],
            ["view 1 members a:1 master a:1", "view 2 members b:2 a:1 master a:1"],
        ];
        for lines in broken {
            assert!(check(&one("a:1", &lines), &agreed).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn two_servers_must_not_have_two_masters_in_a_view() {
        let agreed = [members("a:1 b:2")];
        let mut both = one("a:1", &["view 2 members a:1 b:2 master a:1"]);
        both.extend(one("b:2", &["view 2 members a:1 b:2 master b:2"]));
        assert!(check(&both, &agreed).unwrap_err().contains("two masters"));
    }

    #[test]
    fn repetitions_are_no_changes() {
        let views = ["a", "a", "b", "a"].map(members);
        assert_eq!(changes(views), ["a", "b", "a"].map(members));
    }
}
