//! Wrong variables, repeated options, and secrets in URLs.

use std::fs;

use fake_aws::s3::Operations;

use crate::trial::Trial;

#[test]
fn unknown_variable_is_refused_by_every_command() {
    let trial = Trial::new();
    trial.write("private/key", "secret");
    let tree = trial.tree().display().to_string();
    let commands: [&[&str]; 6] = [
        &["sync", &tree, "s3://site/www"],
        &["plan", &tree, "s3://site/www"],
        &["verify", &tree, "s3://site/www"],
        &["ranges", &tree, "s3://site/www", "--count", "2"],
        &["run", "--source", &tree, "s3://site/www", "--policy", "direct-only"],
        &["report", "merge", "none.json"],
    ];
    for words in commands {
        for (name, nearest) in [("EFS2S3_EXCLUDES", "EFS2S3_EXCLUDE."), ("EFS2S3_MAX_DELETES", "EFS2S3_MAX_DELETE.")] {
            let run = trial.run_words(words, &[(name, "1")]).expect(2);
            assert!(run.stderr.contains(name) && run.stderr.contains(nearest), "{words:?}: {}", run.stderr);
        }
    }
    // The variable is why the destination is missing.
    let run = trial.run_words(&["sync", &tree], &[("EFS2S3_DESTINATON", "s3://site/www")]).expect(2);
    assert!(run.stderr.contains("EFS2S3_DESTINATION."), "{}", run.stderr);
    assert_eq!(trial.count(Operations::all()), 0);
    trial.run_words(&["sync", "--help"], &[("EFS2S3_EXCLUDES", "1")]).expect(0);
    // Options of other commands, and of the function; set to nothing.
    let harmless = [("EFS2S3_COUNT", "4"), ("EFS2S3_ECS_CLUSTER", "c"), ("EFS2S3_TASK_ARN", "x"), ("EFS2S3_OLD", "")];
    trial.start_with(&[], &harmless).end().expect(0);
}

#[test]
fn last_of_a_repeated_option_wins() {
    let trial = Trial::new();
    trial.write("a.html", "1");
    let (first, second) = (trial.folder.path().join("first.toml"), trial.folder.path().join("second.toml"));
    fs::write(&first, "cache-control = \"first\"\n").unwrap();
    fs::write(&second, "cache-control = \"second\"\n").unwrap();
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    let options = [
        ["--storage-class", "STANDARD"],
        ["--concurrency", "2"],
        ["--content-type", "html=text/x-first"],
        ["--config", first],
        ["--storage-class", "STANDARD_IA"],
        ["--concurrency", "3"],
        ["--content-type", "html=text/x-second"],
        ["--config", second],
        ["--delete", "--delete"],
    ]
    .concat();
    trial.sync(&options).expect(0);
    let headers = trial.stored("a.html").headers;
    assert_eq!(headers["x-amz-storage-class"], "STANDARD_IA");
    assert_eq!(headers["content-type"], "text/x-second");
    assert_eq!(headers["cache-control"], "second");
}

#[test]
fn repeated_filters_add_up() {
    let trial = Trial::new();
    for name in ["a.tmp", "private/key", "page", "other"] {
        trial.write(name, "x");
    }
    trial.sync(&["--exclude", "/private", "--exclude", "*.tmp"]).expect(0);
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["other", "page"]);
    let plan = trial.plan(&["--all", "--include", "/page", "--include", "/other"]).expect(0);
    assert_eq!(plan.stdout.lines().count(), 2, "{}", plan.stdout);
    // An option of the command line replaces the variable, as every option does.
    let environment = [("EFS2S3_EXCLUDE", "/page")];
    let run = trial.start_with(&["--exclude", "/private", "--exclude", "*.tmp"], &environment).end().expect(0);
    assert_eq!(run.counted("files"), 3, "the directory is excluded as a whole: {}", run.report["counts"]);
    assert_eq!(run.counted("unchanged"), 2);
}

#[test]
fn password_of_an_endpoint_is_refused_and_appears_nowhere() {
    const SECRET: &str = "hunter2secret";
    let trial = Trial::new();
    trial.write("a", "1");
    let tree = trial.tree().display().to_string();
    let host = trial.s3.url().strip_prefix("http://").unwrap().to_owned();
    let config = trial.folder.path().join("config.toml");
    let broken = trial.folder.path().join("broken.toml");
    fs::write(&config, format!("endpoint-url = \"http://user:{SECRET}@{host}\"\n")).unwrap();
    fs::write(&broken, format!("endpoint-url = \"http://user:{SECRET}@{host}\n")).unwrap();
    let urls = [
        format!("http://user:{SECRET}@{host}"),
        format!("user:{SECRET}@{host}"),
        format!("http://{host}/?token={SECRET}"),
        format!("http://{host}#{SECRET}"),
    ];
    for command in ["sync", "plan", "verify"] {
        let words = [command, tree.as_str(), "s3://site/www", "--mode", "plain"];
        for url in &urls {
            let by_flag = [&words[..], &["--endpoint-url", url]].concat();
            let by_equals = format!("--endpoint-url={url}");
            let by_equals = [&words[..], &[by_equals.as_str()]].concat();
            for (words, environment) in [
                (by_flag, vec![]),
                (by_equals, vec![]),
                (words.to_vec(), vec![("EFS2S3_ENDPOINT_URL", url.as_str())]),
                (words.to_vec(), vec![("AWS_ENDPOINT_URL", url.as_str())]),
                (words.to_vec(), vec![("AWS_ENDPOINT_URL_S3", url.as_str())]),
                ([&words[..], &["--help"]].concat(), vec![("EFS2S3_ENDPOINT_URL", url.as_str())]),
            ] {
                let environment = [&environment[..], &[("RUST_LOG", "trace")]].concat();
                let run = trial.run_words(&words, &environment);
                let is_help = words.contains(&"--help");
                assert_eq!(run.code, if is_help { 0 } else { 2 }, "{words:?} {environment:?}: {}", run.stderr);
                let text = format!("{}{}{}", run.stdout, run.stderr, run.report);
                assert!(!text.contains(SECRET), "{words:?} {environment:?}: {text}");
                assert!(is_help || text.contains("https://host"), "{text}");
            }
        }
        for config in [&config, &broken] {
            let words = [&words[..], &["--config", config.to_str().unwrap()]].concat();
            let run = trial.run_words(&words, &[]).expect(2);
            assert!(!run.stderr.contains(SECRET), "{}", run.stderr);
        }
    }
    assert_eq!(trial.count(Operations::all()), 0);
    // A profile can name an endpoint too.
    fs::create_dir(trial.folder.path().join(".aws")).unwrap();
    let profile = format!("[default]\nendpoint_url = http://user:{SECRET}@{host}\n");
    fs::write(trial.folder.path().join(".aws/config"), profile).unwrap();
    let run = trial.start_with(&[], &[("AWS_ENDPOINT_URL", ""), ("RUST_LOG", "trace")]).end().expect(1);
    assert!(!format!("{}{}", run.stderr, run.report).contains(SECRET), "{}", run.stderr);
    assert_eq!(trial.count(Operations::all()), 0);
}
