//! Colours of `dladm`: for people at a terminal who did not forbid them, and nobody else.

use dlmgmt_tests::{Host, Output};

/// What `dladm` with these words shows on a terminal.
fn on_a_terminal(host: &Host, words: &str, environment: &[(&str, &str)]) -> String {
    let mut terminal = host.command("script");
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        terminal.env_remove(name);
    }
    terminal.env("TERM", "xterm").env("DLMGMT_DOOR", host.door());
    terminal.envs(environment.iter().copied());
    let dladm = dlmgmt_tests::bin("dladm");
    terminal.args(["--quiet", "--return", "--command"]);
    terminal.arg(format!("{} {words}", dladm.display())).arg("/dev/null");
    Output::from(terminal.output().unwrap()).stdout
}

fn is_coloured(text: &str) -> bool {
    text.contains('\x1b')
}

#[test]
fn a_terminal_gets_a_bold_header_and_coloured_states() {
    let host = Host::with_links(&["a"]);
    host.dladm("create-veth v0 v1").ok();
    let shown = on_a_terminal(&host, "show-link", &[]);
    assert!(shown.contains("\x1b[1mLINK\x1b[0m"), "{shown:?}");
    assert!(shown.contains("\x1b[31mdown\x1b[0m"), "{shown:?}");
}

#[test]
fn no_color_and_dumb_terminals_are_honoured() {
    let host = Host::with_links(&["a"]);
    for environment in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        for elsewhere in [environment, ("CI", "true")] {
            let shown = on_a_terminal(&host, "show-link", &[environment, elsewhere]);
            assert!(shown.contains("LINK") && !is_coloured(&shown), "{environment:?}: {shown:?}");
        }
    }
    assert!(is_coloured(&on_a_terminal(&host, "show-link", &[("NO_COLOR", "")])));
}

#[test]
fn what_programs_read_has_no_colours_even_on_a_terminal() {
    let host = Host::with_links(&["a"]);
    for words in ["show-link -p -o link,state", "show-link --json", "show-zone -p -o state"] {
        let shown = on_a_terminal(&host, words, &[("CLICOLOR_FORCE", "1")]);
        assert!(!shown.is_empty() && !is_coloured(&shown), "{words}: {shown:?}");
    }
}

#[test]
fn a_pipe_has_colours_only_where_they_are_forced() {
    let host = Host::with_links(&["a"]);
    let mut plain = host.dladm_command();
    plain.env_remove("CLICOLOR_FORCE");
    assert!(!is_coloured(&Output::from(plain.arg("show-link").output().unwrap()).ok()));
    let mut forced = host.dladm_command();
    forced.env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
    assert!(is_coloured(&Output::from(forced.arg("show-link").output().unwrap()).ok()));
}

#[test]
fn an_error_is_one_plain_line_on_a_terminal_too() {
    let host = Host::with_links(&["a"]);
    let shown = on_a_terminal(&host, "show-link nowhere", &[("CLICOLOR_FORCE", "1")]);
    assert_eq!(shown.matches('\n').count(), 1, "{shown:?}");
    assert!(shown.starts_with("dladm: show-link nowhere: ") && !is_coloured(&shown), "{shown:?}");
}
