//! What the program says about its own commands: help, completions, the manual. All three must
//! know every verb that an operator may use, and none of the others.

use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_transhume");

fn said(words: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(words).output().expect("run transhume");
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The verbs as `--help` lists them, apart from `help` itself.
fn verbs() -> Vec<String> {
    let help = said(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    let (list, _) = list.split_once("\n\n").expect("options after it");
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn help_lists_the_verbs_and_hides_the_remote_half() {
    assert_eq!(
        verbs().join(" "),
        "init check plan sync migrate rollback status verify report files db dns completions man"
    );
}

#[test]
fn every_verb_has_examples() {
    for verb in verbs() {
        let help = said(&[&verb, "--help"]);
        let (_, examples) =
            help.split_once("Examples:\n").unwrap_or_else(|| panic!("{verb}: {help}"));
        assert!(examples.contains(&format!(" {verb}")), "{verb}: {examples}");
        assert!(said(&[&verb, "-h"]).contains("Examples:\n") || verb == "db", "{verb} -h");
    }
    assert!(said(&["--help"]).contains("Examples:\n"));
}

/// How a generator writes down that there is a subcommand.
type Written = fn(&str) -> String;

#[test]
fn completions_know_every_verb() {
    let known: [(&str, Written); 3] = [
        ("bash", |verb| format!("transhume,{verb})")),
        ("zsh", |verb| format!("\n'{verb}:")),
        ("fish", |verb| format!("-a \"{verb}\"")),
    ];
    for (shell, written) in known {
        let script = said(&["completions", shell]);
        for verb in verbs() {
            assert!(script.contains(&written(&verb)), "{shell} does not know {verb}");
        }
        assert!(!script.contains(&written("helper")), "{shell} tells of the remote half");
    }
}

/// The script does in bash what it is for.
#[test]
fn bash_completes_a_verb_and_its_options() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("transhume.bash");
    std::fs::write(&path, said(&["completions", "bash"])).expect("write");
    let complete = |words: &str, current: &str, before: &str| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _transhume transhume '{current}' '{before}'; echo \"${{COMPREPLY[@]}}\"",
            path.display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().expect("run bash");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete("transhume mi", "mi", "transhume"), "migrate");
    assert_eq!(complete("transhume migrate --un", "--un", "migrate"), "--until");
    assert_eq!(complete("transhume hel", "hel", "transhume"), "help");
}

#[test]
fn the_manual_tells_of_every_verb() {
    let page = said(&["man"]);
    assert!(page.contains(".TH transhume 1"), "{page}");
    assert!(page.contains("transhume \\- Moves a live Mastodon server"), "{page}");
    for verb in verbs() {
        let heading = format!("\n.SH \"TRANSHUME {}\"\n", verb.to_uppercase());
        let (_, section) = page.split_once(&heading).unwrap_or_else(|| panic!("no {verb}: {page}"));
        let section = section.split("\n.SH ").next().unwrap_or_default();
        assert!(section.contains(".SS SYNOPSIS\n"), "{verb}: {section}");
        assert!(section.contains(".SS EXAMPLES\n"), "{verb}: {section}");
    }
    assert!(!page.to_lowercase().contains("transhume helper"));
    let codes = page.split_once(".SH \"EXIT STATUS\"\n").expect("exit codes").1;
    assert_eq!(codes.matches(".TP\n").count(), 8, "{codes}");
}
