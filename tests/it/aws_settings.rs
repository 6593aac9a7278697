//! The settings of the AWS CLI: variables, the profile, endpoints.

use std::fs;

use fake_aws::s3::Operation;

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
    for (name, word) in [("AWS_USE_FIPS_ENDPOINT", "FIPS"), ("AWS_USE_DUALSTACK_ENDPOINT", "dual-stack")] {
        let (trial, run) = sync("", &[(name, "true")]);
        let run = run.expect(0);
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
