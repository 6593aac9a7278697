//! Where results and the state may be: outside the source and the destination, and not on another file of the command.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fake_aws::s3::Operations;

use crate::trial::{FinishedRun, Trial, WRITES};

/// What is below a folder, with the contents of files.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path.clone());
            }
            found.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

/// Each command with each option that names a result, or the state.
fn commands<'a>(tree: &'a str, plan: &'a str, at: &'a str) -> Vec<Vec<&'a str>> {
    let (to, mode) = ("s3://site/www", ["--mode", "plain"]);
    let of = |command, option| [&[command, tree, to, option, at], &mode[..]].concat();
    let mut commands: Vec<Vec<&str>> = Vec::new();
    commands.extend(["--report", "--changes", "--state"].map(|option| of("sync", option)));
    commands.extend(["--report", "--output", "--state"].map(|option| of("plan", option)));
    commands.push(of("verify", "--report"));
    commands.extend(["--report", "--changes", "--state"].map(|option| vec!["apply", plan, option, at]));
    commands.extend(["--output", "--state"].map(|option| vec!["ranges", tree, to, "--count", "2", option, at]));
    commands.extend(
        ["--report", "--changes", "--state"]
            .map(|option| vec!["run", "--source", tree, to, "--policy", "direct-only", option, at]),
    );
    commands
}

fn planned(trial: &Trial) -> String {
    let plan = trial.folder.path().join("plan.jsonl").display().to_string();
    trial.plan(&["-o", &plan]).expect(0);
    trial.s3.clear_log();
    plan
}

#[track_caller]
fn assert_refused(trial: &Trial, run: &FinishedRun, words: &[&str]) {
    assert_eq!(run.code, 2, "{words:?}: {}", run.stderr);
    assert!(
        run.stderr.contains("inside the source") || run.stderr.contains("--state overlaps the source, "),
        "{}",
        run.stderr
    );
    assert_eq!(trial.count(Operations::all()), 0, "{words:?}");
}

#[test]
fn results_inside_the_source_are_refused_by_every_command() {
    let trial = Trial::new();
    trial.write("d/file", "x");
    let plan = planned(&trial);
    let tree = trial.tree().display().to_string();
    symlink("tree/d", trial.folder.path().join("link")).unwrap();
    symlink(trial.tree().join("d/new"), trial.folder.path().join("dangling")).unwrap();
    let before = contents(&trial.tree());
    for at in ["tree/result", "tree/none/result", "link/result", "link/../result", "none/../tree/result", "dangling"] {
        let at = trial.folder.path().join(at).display().to_string();
        for words in commands(&tree, &plan, &at) {
            // The trial's own report.
            let environment: &[(&str, &str)] = &[];
            assert_refused(&trial, &trial.run_words(&words, environment), &words);
        }
    }
    // Relative to the working directory, and with the source through a link.
    symlink("tree", trial.folder.path().join("source")).unwrap();
    let words = ["sync", "source", "s3://site/www", "--report", "tree/d/../r"];
    assert_refused(&trial, &trial.run_words(&words, &[]), &words);
    let onto_stdout = format!("exec \"$@\" > {tree}/r");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &onto_stdout,
        "sh",
        env!("CARGO_BIN_EXE_efs2s3"),
        "sync",
        &tree,
        "s3://site/www",
        "--report",
        "-",
    ]);
    assert_refused(&trial, &trial.spawn(command, &[]).end(), &["--report", "-"]);
    trial.remove("r");
    assert_eq!(contents(&trial.tree()), before);
    // A name that only starts like the source's.
    let beside = trial.folder.path().join("tree-report").display().to_string();
    trial.sync(&["--report", &beside]).expect(0);
}

#[test]
fn results_at_a_url_are_refused_before_the_work() {
    let trial = Trial::new();
    let tree = trial.tree().display().to_string();
    let run = trial.run_words(&["plan", &tree, "s3://site/www", "-o", "s3://site/plan"], &[]);
    assert!(run.code == 2 && run.stderr.contains("s3://site/plan is a URL"), "{}", run.stderr);
    assert_eq!(trial.count(Operations::all()), 0);
}

#[test]
fn results_in_a_bind_mount_of_the_source_are_refused() {
    let trial = Trial::new();
    trial.write("d/deep/file", "x");
    let plan = planned(&trial);
    let tree = trial.tree().display().to_string();
    let folder = trial.folder.path().display().to_string();
    fs::create_dir(trial.folder.path().join("mounted")).unwrap();
    let before = contents(&trial.tree());
    // The tree itself, a directory of it, and one of a file system that is mounted inside it.
    let mounts = [
        "mount --bind tree mounted",
        "mount --bind tree/d mounted",
        "mount -t tmpfs none tree/d && mkdir -p tree/d/deep/x && mount --bind tree/d/deep mounted",
    ];
    for mount in mounts {
        let script = format!("cd {folder} && {mount} && exec \"$@\"");
        for at in ["mounted/result", "mounted/x/../result", "mounted/new/result"] {
            let at = format!("{folder}/{at}");
            for words in commands(&tree, &plan, &at) {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_efs2s3")]).args(&words);
                assert_refused(&trial, &trial.spawn(command, &[]).end(), &words);
            }
        }
    }
    // A directory outside that is mounted inside the source is published too.
    fs::create_dir(trial.folder.path().join("outside")).unwrap();
    let script = format!("cd {folder} && mount --bind outside tree/d && exec \"$@\"");
    let at = format!("{folder}/outside/result");
    let words = ["sync", &tree, "s3://site/www", "--changes", &at];
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_efs2s3")]).args(words);
    assert_refused(&trial, &trial.spawn(command, &[]).end(), &words);
    assert_eq!(contents(&trial.tree()), before);
}

#[test]
fn a_result_on_another_file_of_the_command_is_refused() {
    let trial = Trial::new();
    trial.write("a", "x");
    let at = |name: &str| trial.folder.path().join(name).display().to_string();
    let (plan, tree) = (planned(&trial), trial.tree().display().to_string());
    let to = "s3://site/www";
    fs::write(at("manifest"), "/a\n").unwrap();
    fs::write(at("config"), "").unwrap();
    symlink("plan.jsonl", at("link")).unwrap();
    let ranges = ["ranges", &tree, to, "--count", "2", "-o", &at("ranges")];
    trial.run_words(&ranges, &[]).expect(0);
    trial.sync(&["--ranges", &at("ranges"), "--range-index", "0", "--report", &at("0.json")]).expect(0);
    trial.s3.clear_log();
    for words in [
        vec!["sync", &tree, to, "--report", &at("both"), "--changes", &at("both")],
        vec!["plan", &tree, to, "--report", &at("both"), "-o", &at("both")],
        vec!["apply", &plan, "--report", &plan],
        vec!["apply", &plan, "--changes", &at("link")],
        vec!["sync", &tree, to, "--from-manifest", &at("manifest"), "--report", &at("manifest")],
        vec!["sync", &tree, to, "--config", &at("config"), "--changes", &at("config")],
        vec!["sync", &tree, to, "--ranges", &at("ranges"), "--range-index", "0", "--report", &at("ranges")],
        vec!["report", "merge", &at("0.json"), "--report", &at("0.json")],
    ] {
        let run = trial.run_words(&words, &[]);
        assert_eq!(run.code, 2, "{words:?}: {}", run.stderr);
        assert!(run.stderr.contains("name another file"), "{words:?}: {}", run.stderr);
    }
    assert_eq!(trial.count(Operations::all()), 0);
    assert!(!Path::new(&at("both")).exists());
    assert!(fs::read_to_string(&plan).unwrap().starts_with("{\"plan\":1"));
    // A device, and the range list that the new one replaces.
    trial.sync(&["--report", "/dev/null", "--changes", "/dev/null"]).expect(0);
    let state = at("state");
    let previous = at("ranges");
    let again = [&ranges[..], &["--previous", &previous, "--state", &state]].concat();
    trial.run_words(&again, &[]).expect(0);
}

#[test]
fn a_result_is_never_written_into_a_hard_link_of_a_source_file() {
    let trial = Trial::new();
    let page = trial.write("page", "page");
    let (plan, tree) = (planned(&trial), trial.tree().display().to_string());
    let at = |name: &str| trial.folder.path().join(name);
    let before = contents(&trial.tree());
    fs::hard_link(&page, at("hard")).unwrap();
    symlink("hard", at("link")).unwrap();
    let refused = |run: FinishedRun, what: &str| {
        assert_eq!(run.code, 2, "{what}: {}", run.stderr);
        assert!(run.stderr.contains("more than one hard link"), "{what}: {}", run.stderr);
        assert_eq!(contents(&trial.tree()), before, "{what}");
    };
    for name in ["hard", "link"] {
        let at = at(name).display().to_string();
        for words in commands(&tree, &plan, &at).into_iter().filter(|words| words.contains(&"--changes")) {
            refused(trial.run_words(&words, &[]), &words.join(" "));
        }
    }
    for line in [
        "exec $1 sync $2 s3://site/www --report - >> hard",
        "exec $1 sync $2 s3://site/www --report /dev/stdout >> hard",
        "exec $1 sync $2 s3://site/www --changes /dev/fd/3 3>> hard",
        "exec $1 plan $2 s3://site/www -o /dev/stdout >> hard",
    ] {
        refused(shell(&trial, line), line);
    }
    assert_eq!(trial.count(Operations::all()), 0);
    // These appear as a whole, under a name that then leads to another file.
    for (number, words) in commands(&tree, &plan, "hard-new").into_iter().enumerate() {
        if words.contains(&"--report") || words.contains(&"--output") {
            let new = at(&format!("new{number}")).display().to_string();
            fs::hard_link(&page, &new).unwrap();
            let words: Vec<&str> = words.into_iter().map(|word| if word == "hard-new" { &new } else { word }).collect();
            let run = trial.run_words(&words, &[("EFS2S3_NO_FILTERS", "true")]);
            // A new hard link changes the file's ctime, so the plan no longer holds.
            assert_eq!(run.code, if words[0] == "apply" { 3 } else { 0 }, "{words:?}: {}", run.stderr);
            assert_eq!(contents(&trial.tree()), before, "{words:?}");
            assert_ne!(fs::read_to_string(&new).unwrap(), "page", "{words:?}");
        }
    }
}

#[test]
fn state_that_overlaps_the_destination_is_refused() {
    let trial = Trial::new();
    trial.write("a", "x");
    let plan = planned(&trial);
    let tree = trial.tree().display().to_string();
    let to = "s3://site/www";
    // The destination is s3://site/www.
    for state in ["s3://site", "s3://site/", "s3://site/www", "s3://site/www/", "s3://site/www/state"] {
        for words in [
            vec!["sync", &tree, to, "--state", state],
            vec!["plan", &tree, to, "--state", state],
            vec!["apply", &plan, "--state", state],
            vec!["ranges", &tree, to, "--count", "2", "--state", state],
            vec!["run", "--source", &tree, to, "--policy", "direct-only", "--state", state],
        ] {
            let run = trial.run_words(&words, &[]);
            assert_eq!(run.code, 2, "{words:?}: {}", run.stderr);
            assert!(run.stderr.contains("--state overlaps"), "{words:?}: {}", run.stderr);
        }
    }
    let run = trial.run_words(&["ranges", &tree, to, "--count", "2", "-o", "s3://site/www/ranges.json"], &[]).expect(2);
    assert!(run.stderr.contains("inside the destination"), "{}", run.stderr);
    assert_eq!(trial.count(Operations::all()), 0);
    for state in ["s3://site/www-old", "s3://site/ww"] {
        trial.sync(&["--state", state]).expect(0);
    }
}

/// Runs a shell script with the program as `$1` and the source as `$2`.
fn shell(trial: &Trial, script: &str) -> FinishedRun {
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_efs2s3")]).arg(trial.tree());
    trial.spawn(command, &[("EFS2S3_MODE", "plain"), ("EFS2S3_STATE", "state")]).end()
}

#[test]
fn a_result_that_no_process_reads_is_refused_before_the_run_starts() {
    let trial = Trial::new();
    trial.write("a", "x");
    let at = |name: &str| trial.folder.path().join(name);
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    fs::create_dir(at("folder")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for (name, message) in
        [("pipe", "a pipe that no process reads"), ("folder", "is a directory"), ("socket", "is a socket")]
    {
        for line in [
            format!("exec $1 sync $2 s3://site/www --report {name}"),
            format!("exec $1 sync $2 s3://site/www --changes {name}"),
            format!("exec $1 plan $2 s3://site/www -o {name}"),
            format!("exec $1 verify $2 s3://site/www --report {name}"),
            format!("exec $1 ranges $2 s3://site/www --count 2 -o {name}"),
            format!("exec $1 run --source $2 s3://site/www --policy direct-only --no-filters --report {name}"),
            format!("exec $1 run --source $2 s3://site/www --policy direct-only --no-filters --changes {name}"),
        ] {
            let ended = shell(&trial, &line).expect(2);
            assert!(ended.stderr.contains(message), "{line}: {}", ended.stderr);
        }
    }
    let plan = shell(&trial, "exec $1 apply <(echo)").expect(2);
    assert!(plan.stderr.contains("is not a regular file"), "{}", plan.stderr);
    assert!(!at("state").exists() && trial.s3.log().is_empty());
}

#[test]
fn a_result_goes_to_what_a_process_reads() {
    let trial = Trial::new();
    trial.write("a", "x");
    for line in [
        "set -o pipefail; $1 sync $2 s3://site/www --report /dev/stdout | tee out",
        "$1 sync $2 s3://site/www --report >(cat > part; mv part out); code=$?; until [ -s out ]; do sleep 0.01; done; \
         exit $code",
        "mkfifo pipe; cat pipe > out & until $1 sync $2 s3://site/www --report pipe; do sleep 0.05; done; wait",
        "$1 sync $2 s3://site/www --report /dev/null && echo '\"exit_code\": 0' > out",
        "$1 sync $2 s3://site/www --from-manifest <(sleep 1; echo a) --report - > out",
    ] {
        shell(&trial, line).expect(0);
        let out = trial.folder.path().join("out");
        let report = fs::read_to_string(&out).unwrap();
        assert!(report.contains("\"exit_code\": 0"), "{line}: {report}");
        fs::remove_file(&out).unwrap();
    }
    assert!(trial.has("a"));
}

/// The shell has opened the file, and others write to it too.
#[test]
fn a_result_for_a_descriptor_is_written_where_the_descriptor_is() {
    let trial = Trial::new();
    trial.write("a", "x");
    symlink("/dev/stdout", trial.folder.path().join("link")).unwrap();
    let mut number = 0;
    for (command, holds) in [
        ("sync $2 s3://site/www --report /dev/stdout", "\"exit_code\": 0"),
        ("sync $2 s3://site/www --report /proc/self/fd/1", "\"exit_code\": 0"),
        ("sync $2 s3://site/www --report /dev/stderr 2>&1", "\"exit_code\": 0"),
        ("sync $2 s3://site/www --report /dev/fd/7 7>&1", "\"exit_code\": 0"),
        ("verify $2 s3://site/www --report link", "\"exit_code\": 0"),
        ("plan $2 s3://site/other -o /dev/stdout", "\"key\""),
        ("ranges $2 s3://site/other --count 2 -o /dev/fd/1", "\"after\""),
        ("sync $2 s3://site/www$n --changes /dev/stdout", "\"key\""),
    ] {
        for (open, close) in [("{", "} > out"), ("{", "} >> out"), ("(", ") > out")] {
            number += 1;
            fs::write(trial.folder.path().join("out"), "").unwrap();
            shell(
                &trial,
                &format!("n={number}; {open} echo begin; $1 {command}; code=$?; echo end; exit $code; {close}"),
            )
            .expect(0);
            let out = fs::read_to_string(trial.folder.path().join("out")).unwrap();
            let whole = out.starts_with("begin\n") && out.ends_with("end\n") && out.contains(holds);
            assert!(whole, "{command} {close}: {out}");
        }
    }
    for refused in [
        "exec $1 sync $2 s3://site/www --report /dev/stdout --changes out > out",
        "exec $1 sync $2 s3://site/www --from-manifest out --report /dev/stdout >> out",
        "exec $1 sync $2 s3://site/www --report /dev/fd/7 7< out",
    ] {
        shell(&trial, refused).expect(2);
    }
}

#[test]
fn a_stop_request_ends_the_wait_for_an_input() {
    let trial = Trial::new();
    trial.write("a", "x");
    let pipe = trial.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (tree, pipe_name) = (trial.tree().display().to_string(), pipe.to_str().unwrap());
    let synced = ["sync", &tree, "s3://site/www", "--mode", "plain"];
    let merged = ["report", "merge"];
    let split = ["ranges", &tree, "s3://site/www", "--mode", "plain", "--count", "2", "--state", "state"];
    for words in [
        [&synced[..], &["--from-manifest", pipe_name]].concat(),
        [&synced[..], &["--ranges", pipe_name, "--range-index", "0"]].concat(),
        [&split[..], &["--previous", pipe_name]].concat(),
        [&merged[..], &[pipe_name]].concat(),
    ] {
        let run = trial.start_words(&words, &[]);
        // The open returns once the program reads. It delivers a byte, and then nothing.
        let mut writer = fs::File::options().write(true).open(&pipe).unwrap();
        std::io::Write::write_all(&mut writer, b"a").unwrap();
        run.signal("-TERM");
        run.end().expect(143);
        drop(writer);
    }
    assert_eq!(trial.count(WRITES), 0);
}
