//! The settings of the AWS CLI: variables, the profile, endpoints.

use std::fs;

use fake_aws::s3::{Fault, Operation, Operations, Rule};

use crate::trial::{FinishedRun, Trial};

/// Runs a sync with these variables and this text in `~/.aws/config`.
fn sync(profile: &str, environment: &[(&str, &str)]) -> (Trial, FinishedRun) {
    let trial = Trial::new();
    trial.write("a", "1");
    if !profile.is_empty() {
        fs::create_dir(trial.folder.path().join(".aws")).unwrap();
        fs::write(trial.folder.path().join(".aws/config"), profile).unwrap();
    }
    let run = trial.start_with(&[], environment).end();
    (trial, run)
}

#[test]
fn retry_settings_of_the_sdk_are_ignored() {
    let no_profile = "";
    for (profile, environment) in [
        (no_profile, ("AWS_RETRY_MODE", "legacy")),
        (no_profile, ("AWS_RETRY_MODE", "")),
        (no_profile, ("AWS_MAX_ATTEMPTS", "0")),
        (no_profile, ("AWS_MAX_ATTEMPTS", "-1")),
        ("[default]\nretry_mode = legacy\n", ("AWS_REGION", "us-east-1")),
        ("[default]\nmax_attempts = 0\n", ("AWS_REGION", "us-east-1")),
    ] {
        let (trial, run) = sync(profile, &[environment, ("RUST_LOG", "efs2s3=debug")]);
        let run = run.expect(0);
        trial.assert_same();
        let lines: Vec<_> =
            run.stderr.lines().filter(|line| line.contains("this program retries requests itself")).collect();
        assert_eq!(lines.len(), 1, "{profile} {environment:?}: {}", run.stderr);
    }
}

#[test]
fn a_variable_of_the_runtime_ends_no_run() {
    for value in ["0", "", "auto", "-1"] {
        let (trial, run) = sync("", &[("TOKIO_WORKER_THREADS", value)]);
        run.expect(0);
        trial.assert_same();
    }
}

#[test]
fn empty_variables_count_as_not_set() {
    let empty = [
        ("AWS_REGION", ""),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_PROFILE", ""),
        ("AWS_CONFIG_FILE", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", ""),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", ""),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", ""),
        ("AWS_ROLE_ARN", ""),
        ("AWS_CA_BUNDLE", ""),
        ("AWS_USE_FIPS_ENDPOINT", ""),
        ("AWS_ENDPOINT_URL_S3", ""),
    ];
    // The credentials come from a profile, after every variable that is empty.
    let profile = "[default]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n";
    let environment = [&empty[..], &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")]].concat();
    let (trial, run) = sync(profile, &environment);
    run.expect(0);
    trial.assert_same();
    let signed = trial.s3.requests(Operation::ListObjectsV2).remove(0).headers["authorization"].clone();
    assert!(signed.contains("AKIDPROFILE/") && signed.contains("/eu-west-1/s3/"), "{signed}");
}

#[test]
fn a_given_endpoint_wins_over_fips_and_dual_stack() {
    let (fips, dual_stack) = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT");
    for (name, word, other) in [(fips, "FIPS", dual_stack), (dual_stack, "dual-stack", fips)] {
        let (trial, run) = sync("", &[(name, "true")]);
        let run = run.expect(0);
        assert!(!run.stderr.contains(other), "{}", run.stderr);
        trial.assert_same();
        let warnings: Vec<_> = run.stderr.lines().filter(|line| line.contains("WARN") && line.contains(word)).collect();
        assert_eq!(warnings.len(), 1, "{}", run.stderr);
    }
    let (trial, run) = sync("[default]\nuse_fips_endpoint = true\n", &[]);
    assert!(run.expect(0).stderr.contains("FIPS"));
    trial.assert_same();
}

#[test]
fn an_endpoint_of_one_service_in_the_profile_is_used() {
    let trial = Trial::new();
    trial.write("a", "1");
    fs::create_dir(trial.folder.path().join(".aws")).unwrap();
    let url = trial.s3.url();
    let profile = format!("[default]\nservices = local\n\n[services local]\ns3 =\n  endpoint_url = {url}\n");
    fs::write(trial.folder.path().join(".aws/config"), profile).unwrap();
    trial.start_with(&[], &[("AWS_ENDPOINT_URL", ""), ("AWS_USE_FIPS_ENDPOINT", "true")]).end().expect(0);
    trial.assert_same();
}

#[test]
fn a_switch_that_is_neither_true_nor_false_ends_the_run_before_any_request() {
    let fips = "AWS_USE_FIPS_ENDPOINT (or use_fips_endpoint in the profile) is neither true nor false";
    let dual_stack = "AWS_USE_DUALSTACK_ENDPOINT (or use_dualstack_endpoint in the profile) is neither true nor false";
    let no_profile = "";
    for (profile, variable, message) in [
        (no_profile, ("AWS_USE_FIPS_ENDPOINT", "yes"), fips),
        (no_profile, ("AWS_USE_DUALSTACK_ENDPOINT", "1"), dual_stack),
        ("[default]\nuse_fips_endpoint = on\n", ("AWS_REGION", "us-gov-west-1"), fips),
    ] {
        let (trial, run) = sync(profile, &[variable]);
        let run = run.expect(2);
        assert_eq!(run.stderr.matches(message).count(), 1, "{}", run.stderr);
        assert_eq!((trial.count(Operations::all()), run.stderr.lines().count()), (0, 1), "{}", run.stderr);
    }
    sync("", &[("AWS_USE_FIPS_ENDPOINT", "False")]).1.expect(0);
}

#[test]
fn a_settings_file_that_cannot_be_used_is_named_once() {
    let (trial, run) = sync("", &[("AWS_CONFIG_FILE", "/no/such/file")]);
    let run = run.expect(0);
    trial.assert_same();
    assert_eq!(
        run.stderr.matches("cannot read /no/such/file, which AWS_CONFIG_FILE names").count(),
        1,
        "{}",
        run.stderr
    );
    assert_eq!(run.stderr.matches("/no/such/file").count(), 1, "{}", run.stderr);
    let (trial, run) = sync("[default\nregion = eu-west-1\n", &[]);
    let run = run.expect(0);
    trial.assert_same();
    assert_eq!(run.stderr.matches("cannot use the settings files of the AWS CLI").count(), 1, "{}", run.stderr);
    assert_eq!(run.stderr.matches(" WARN ").count(), 1, "{}", run.stderr);
}

#[test]
fn an_access_point_in_another_partition_is_a_usage_error() {
    let trial = Trial::new();
    trial.write("a", "1");
    let point = "s3://arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint/point/www";
    let run = trial.sync_to(point, &[]).expect(2);
    let message = "the ARN is in partition aws-us-gov, AWS_REGION (us-east-1) in aws: set a region of aws-us-gov";
    assert!(run.stderr.contains(message), "{}", run.stderr);
}

#[test]
fn a_page_that_is_not_a_listing_is_named_in_plain_words() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(Fault::login_page()));
    let run = trial.sync(&["--outage-timeout", "2s"]).expect(1);
    assert!(run.stderr.contains("cannot read the response as a response of S3"), "{}", run.stderr);
    assert!(!run.stderr.contains(" { ") && !run.stderr.contains("bug in the SDK"), "{}", run.stderr);
}
