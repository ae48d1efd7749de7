//! Running a command while counting the lines it prints.

use super::WorkError;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Lines kept for a message about a failure.
const KEPT: usize = 25;

/// What a command printed.
#[derive(Debug)]
pub struct Printed {
    /// Number of lines.
    pub lines: usize,
    /// The last of them.
    pub last: Vec<String>,
}

/// Runs `command` with `input`, calling `on_line` with the number of each line it prints (on stdout and stderr).
pub fn run(
    step: &'static str,
    mut command: Command,
    input: &str,
    on_line: &mut dyn FnMut(usize),
) -> Result<Printed, WorkError> {
    let text = format!("{command:?}");
    let failed = |why: String, last: Vec<String>| WorkError::Command {
        step,
        command: text.clone(),
        why,
        output: last.join("\n"),
    };
    let (reader, writer) = std::io::pipe().map_err(|e| failed(e.to_string(), Vec::new()))?;
    let mut child = {
        let errors = writer.try_clone().map_err(|e| failed(e.to_string(), Vec::new()))?;
        command.stdin(Stdio::piped()).stdout(writer).stderr(errors);
        let child = command.spawn().map_err(|e| failed(e.to_string(), Vec::new()))?;
        drop(command); // it holds our ends of the pipe, and the reader waits for the last of them
        child
    };
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let (mut lines, mut last) = (0, VecDeque::new());
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        lines += 1;
        last.push_back(String::from_utf8_lossy(&line).into_owned());
        if last.len() > KEPT {
            last.pop_front();
        }
        on_line(lines);
    }
    let last = Vec::from(last);
    let status = child.wait().map_err(|e| failed(e.to_string(), Vec::new()))?;
    let fed = feeder.join().expect("the feeder returns its errors");
    match (status.success(), fed) {
        (true, Ok(())) => Ok(Printed { lines, last }),
        (true, Err(e)) => Err(failed(format!("it did not take its input: {e}"), last)),
        (false, _) => Err(failed(status.to_string(), last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_are_counted_as_they_come() {
        let mut seen = Vec::new();
        let printed = run("test", shell("cat; echo err >&2"), "a\nb\n", &mut |n| seen.push(n)).unwrap();
        assert_eq!((printed.lines, seen), (3, vec![1, 2, 3]));
        assert_eq!(printed.last, ["a", "b", "err"]);
    }

    #[test]
    fn a_failure_names_the_command_and_shows_its_words() {
        let error = run("test", shell("echo dear me; exit 3"), "", &mut |_| ()).unwrap_err().to_string();
        assert!(
            error.contains("exit 3") && error.contains("dear me") && error.contains("exit status: 3"),
            "{error}"
        );
    }
}
