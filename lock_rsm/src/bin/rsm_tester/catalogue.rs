//! The tests by number.

use super::failure::Failure;
use super::scene::Scene;
use super::seed::Victim;
use super::{membership, seed, service};

/// The first test of the later labs here is the first one there plus this.
const LATER: u32 = 100;

/// A test. 1 to 4 are those of 2007; 100 to 116 are 0 to 16 of the later labs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test(u32);

/// What stands behind a number.
struct Entry {
    number: u32,
    servers: u16,
    title: &'static str,
}

const fn entry(number: u32, servers: u16, title: &'static str) -> Entry {
    Entry { number, servers, title }
}

const ALL: [Entry; 21] = [
    entry(1, 3, "start 3-process replicated state machine, run lock_tester"),
    entry(2, 3, "start 3-process rsm, kill slave while tester is running"),
    entry(3, 3, "start 3-process rsm, kill master while tester is running"),
    entry(4, 3, "start 2-process rsm, join a third, kill master while tester is running"),
    entry(100, 3, "start 3-process lock server"),
    entry(101, 3, "start 3-process lock server, kill third server"),
    entry(102, 3, "start 3-process lock server, kill first server"),
    entry(103, 3, "start 3-process lock server, kill a server, restart a server"),
    entry(
        104,
        3,
        "start 3-process lock server, kill third server, kill second server, restart third server, \
         kill third server again, restart second server, re-restart third server",
    ),
    entry(
        105,
        3,
        "start 3-process lock server, send signal 1 to first server, kill third server, restart third server",
    ),
    entry(
        106,
        4,
        "start 4-process lock server, send signal 2 to first server, kill fourth server, restart fourth server",
    ),
    entry(
        107,
        4,
        "start 4-process lock server, send signal 2 to first server, kill fourth server, \
         kill other servers, restart other servers, restart fourth server",
    ),
    entry(108, 3, "start 3-process lock service"),
    entry(109, 3, "start 3-process rsm, kill second slave while lock_tester is running"),
    entry(110, 3, "start 3-process rsm, kill second slave and restart it later while lock_tester is running"),
    entry(111, 3, "start 3-process rsm, kill primary while lock_tester is running"),
    entry(112, 3, "start 3-process rsm, kill master at break1 and restart it while lock_tester is running"),
    entry(113, 3, "start 3-process rsm, kill slave at break1 and restart it while lock_tester is running"),
    entry(114, 5, "start 5-process rsm, kill slave break1, kill slave break2"),
    entry(115, 5, "start 5-process rsm, kill slave break1, kill primary break2"),
    entry(116, 3, "start 3-process rsm, partition primary, heal it"),
];

impl Test {
    /// The tests that `words` name: numbers, ranges such as `8-16`, `seed`, `later` and `all`.
    pub fn named(words: &[String]) -> Result<Vec<Test>, Failure> {
        let tests: Result<Vec<Vec<Test>>, Failure> = words.iter().map(|word| Test::by_word(word)).collect();
        Ok(tests?.concat())
    }

    /// The tests of 2007.
    pub fn seed() -> Vec<Test> {
        Test::chosen(Test::is_seed)
    }

    fn chosen(which: impl Fn(Test) -> bool) -> Vec<Test> {
        ALL.iter().map(|entry| Test(entry.number)).filter(|&test| which(test)).collect()
    }

    fn by_word(word: &str) -> Result<Vec<Test>, Failure> {
        match word {
            "seed" => Ok(Test::seed()),
            "later" => Ok(Test::chosen(|test| !test.is_seed())),
            "all" => Ok(Test::chosen(|_| true)),
            _ => match word.split_once('-') {
                Some((first, last)) => {
                    let (first, last) = (Test::by_number(first)?, Test::by_number(last)?);
                    Ok(Test::chosen(|test| (first.0..=last.0).contains(&test.0)))
                }
                None => Ok(vec![Test::by_number(word)?]),
            },
        }
    }

    /// A later test whose number no test of 2007 has goes by that, too.
    fn by_number(word: &str) -> Result<Test, Failure> {
        let number = word.parse::<u32>().ok();
        let number = number.map(|n| if n == 0 || (5..=16).contains(&n) { n + LATER } else { n });
        number.filter(|number| ALL.iter().any(|entry| entry.number == *number)).map(Test).ok_or_else(|| {
            Failure::new(format!(
                "there is no test {word}; there are 1 to 4, 100 to 116 (0 and 5 to 16 for short), ranges of them, \
                 `seed`, `later` and `all`"
            ))
        })
    }

    fn entry(self) -> &'static Entry {
        ALL.iter().find(|entry| entry.number == self.0).expect("tests are made from the list")
    }

    /// Whether it is one of 2007.
    pub fn is_seed(self) -> bool {
        self.0 < LATER
    }

    pub fn number(self) -> u32 {
        self.0
    }

    /// How many servers it can have at a time.
    pub fn servers(self) -> u16 {
        self.entry().servers
    }

    /// Whether the members of its group are listed in a file from the start; otherwise they join.
    pub fn listed(self) -> bool {
        matches!(self.0, 1..=3)
    }

    /// Whether a member is to be removed for its silence. Where none is, being starved for a while by a busy machine is no reason.
    pub fn removes(self) -> bool {
        !matches!(self.0, 1 | 100 | 108)
    }

    /// The labs' line.
    pub fn title(self) -> String {
        format!("test{}: {}", self.0, self.entry().title)
    }

    /// Runs it.
    pub async fn run(self, scene: &mut Scene) -> Result<(), Failure> {
        match self.0 {
            1 => seed::three(scene, Victim::Nobody).await,
            2 => seed::three(scene, Victim::Slave).await,
            3 => seed::three(scene, Victim::Master).await,
            4 => seed::join_and_kill_master(scene).await,
            100 => membership::start(&mut scene.group).await,
            101 => membership::kill_one(&mut scene.group, 2).await,
            102 => membership::kill_one(&mut scene.group, 0).await,
            103 => membership::kill_and_restart(&mut scene.group).await,
            104 => membership::former_member_cannot_help(&mut scene.group).await,
            105 => membership::die_before_proposing(&mut scene.group).await,
            106 => membership::die_before_telling(&mut scene.group, false).await,
            107 => membership::die_before_telling(&mut scene.group, true).await,
            108 => service::undisturbed(scene).await,
            109 => service::kill(scene, 2, false).await,
            110 => service::kill(scene, 2, true).await,
            111 => service::kill(scene, 0, false).await,
            112 => service::die_at_command(scene, 0).await,
            113 => service::die_at_command(scene, 2).await,
            114 => service::die_at_command_then_at_view(scene, 3).await,
            115 => service::die_at_command_then_at_view(scene, 0).await,
            116 => service::partition_master(scene).await,
            _ => unreachable!("tests are made from the list"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(words: &[&str]) -> Vec<u32> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Test::named(&words).unwrap().into_iter().map(Test::number).collect()
    }

    #[test]
    fn tests_are_found_by_number_range_and_name() {
        assert_eq!(numbers(&["3", "1"]), [3, 1]);
        assert_eq!(numbers(&["0", "5", "16", "101"]), [100, 105, 116, 101]);
        assert_eq!(numbers(&["2-4", "14-16", "100-102"]), [2, 3, 4, 114, 115, 116, 100, 101, 102]);
        assert_eq!(numbers(&["seed"]), [1, 2, 3, 4]);
        assert_eq!(numbers(&["later"]).len(), 17);
        assert_eq!(numbers(&["all"]).len(), 21);
    }

    #[test]
    fn nonsense_is_no_test() {
        for word in ["17", "99", "117", "one", "", "-", "1-", "5-x", "-1"] {
            assert!(Test::named(&[word.to_owned()]).is_err(), "{word}");
        }
    }
}
