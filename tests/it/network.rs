//! Proxies, certificates and slow links between the program and S3.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fake_aws::datasync::DataSyncServer;
use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{Trial, random};

const MIB: u64 = 1 << 20;
/// Unsets the trial's credentials.
const NO_CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_SESSION_TOKEN", "")];

/// Serves each connection on a thread. Returns the port.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        while let Ok((connection, _)) = listener.accept() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(connection));
        }
    });
    port
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

/// Copies in both directions, and calls `passed` before it passes a piece on to `server`.
fn join(mut client: TcpStream, mut server: TcpStream, passed: impl Fn(usize)) {
    let (mut client_end, mut server_end) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut server_end, &mut client_end);
        let _ = client_end.shutdown(Shutdown::Write);
    });
    let mut piece = [0; 4096];
    while let Ok(bytes @ 1..) = client.read(&mut piece) {
        passed(bytes);
        if server.write_all(piece.get(..bytes).unwrap()).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}

/// Reads the head of a request. Returns what follows it too.
fn read_head(connection: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let bytes = connection.read(&mut piece).ok().filter(|bytes| *bytes > 0)?;
        received.extend_from_slice(piece.get(..bytes).unwrap());
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = received.split_off(end + 4);
            return Some((String::from_utf8(received).unwrap(), rest));
        }
    }
}

/// An HTTP proxy. It serves one plain request for each connection, and makes tunnels to one port.
#[derive(Clone)]
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `tunnel` is the port behind every tunnel, or the status with which the proxy refuses tunnels.
    fn start(tunnel: Result<u16, &'static str>) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heads);
        let port = listen(move |mut client| {
            let Some((head, rest)) = read_head(&mut client) else { return };
            log.lock().unwrap().push(head.clone());
            let (method, url) = head.split_once(' ').unwrap();
            let url = url.split(' ').next().unwrap();
            if method == "CONNECT" {
                match tunnel {
                    Ok(port) => {
                        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                        join(client, TcpStream::connect(("127.0.0.1", port)).unwrap(), |_| ());
                    }
                    Err(status) => {
                        let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                        let _ = client.write_all(response.as_bytes());
                    }
                }
                return;
            }
            let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
            let mut server = TcpStream::connect(host).unwrap();
            let head =
                head.replacen(&format!("{url} HTTP/1.1\r\n"), &format!("/{path} HTTP/1.1\r\nconnection: close\r\n"), 1);
            server.write_all(head.as_bytes()).unwrap();
            server.write_all(&rest).unwrap();
            join(client, server, |_| ());
        });
        Self { port, heads }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The heads of the requests since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }
}

/// Terminates TLS with a certificate, and forwards everything to the port behind it.
const TLS_FRONT: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    sink.close()
def serve(connection):
    try:
        front = context.wrap_socket(connection, server_side=True)
    except OSError:
        return
    back = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
    threading.Thread(target=copy, args=(back, front), daemon=True).start()
    copy(front, back)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// TLS in front of a trial's S3, with a certificate for 127.0.0.1 and s3.internal.test that no system trusts.
struct TlsFront {
    process: Child,
    port: u16,
    certificate: PathBuf,
    key: PathBuf,
}

impl TlsFront {
    fn start(trial: &Trial) -> Self {
        let [key, certificate] = ["key.pem", "certificate.pem"].map(|name| trial.folder.path().join(name));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=trial", "-addext", "subjectAltName=IP:127.0.0.1,DNS:s3.internal.test"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut process = Command::new("python3")
            .args(["-c", TLS_FRONT])
            .args([&certificate, &key])
            .arg(port_of(&trial.s3.url()).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { process, port: port.trim().parse().unwrap(), certificate, key }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn certificate_in_aws_ca_bundle_is_trusted() {
    let trial = Trial::new();
    trial.write("a", "1");
    let front = TlsFront::start(&trial);
    let endpoint = format!("https://127.0.0.1:{}", front.port);
    let options = ["--endpoint-url", &endpoint, "--retries", "1"];
    let untrusted = trial.start(&["--endpoint-url", &endpoint]).end().expect(1);
    assert!(untrusted.stderr.contains("set AWS_CA_BUNDLE to a file"), "{}", untrusted.stderr);
    assert!(untrusted.time < Duration::from_secs(20), "no retry helps, and the run waits for no outage to end");
    trial.start_with(&options, &[("AWS_CA_BUNDLE", front.certificate.to_str().unwrap())]).end().expect(0);
    trial.assert_same();
    let no_bundle = trial.start_with(&options, &[("AWS_CA_BUNDLE", front.key.to_str().unwrap())]).end().expect(1);
    assert!(no_bundle.stderr.contains("AWS_CA_BUNDLE") && no_bundle.stderr.contains(front.key.to_str().unwrap()));
    assert!(no_bundle.stderr.contains("Correct the path or the file, or remove the setting"), "{}", no_bundle.stderr);

    // The profile may name the file, and the variable wins over it.
    let aws = trial.folder.path().join(".aws");
    fs::create_dir(&aws).unwrap();
    let profile = |path: &Path| fs::write(aws.join("config"), format!("[default]\nca_bundle = {}\n", path.display()));
    profile(&front.certificate).unwrap();
    trial.start(&options).end().expect(0);
    profile(&front.key).unwrap();
    trial.start(&options).end().expect(1);
    trial.start_with(&options, &[("AWS_CA_BUNDLE", front.certificate.to_str().unwrap())]).end().expect(0);
}

#[test]
fn a_bundle_with_a_broken_certificate_is_refused() {
    let trial = Trial::new();
    let front = TlsFront::start(&trial);
    let broken = trial.folder.path().join("broken.pem");
    let certificate = fs::read_to_string(&front.certificate).unwrap();
    let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in [block.to_owned(), format!("{certificate}{block}")] {
        fs::write(&broken, text).unwrap();
        let run = trial.start_with(&[], &[("AWS_CA_BUNDLE", broken.to_str().unwrap())]).end().expect(1);
        assert!(run.stderr.contains("broken.pem") && run.stderr.contains("is not valid"), "{}", run.stderr);
    }
}

#[test]
fn a_proxy_and_a_ca_bundle_work_together() {
    let trial = Trial::new();
    trial.write("a", "1");
    let front = TlsFront::start(&trial);
    let proxy = Proxy::start(Ok(front.port));
    let bundle = ("AWS_CA_BUNDLE", front.certificate.to_str().unwrap());
    // A name that only the proxy knows.
    let options = ["--endpoint-url", "https://s3.internal.test", "--retries", "0"];
    let with_password = format!("http://me:p%40ss@127.0.0.1:{}", proxy.port);
    let run = trial.start_with(&options, &[("HTTPS_PROXY", &with_password), bundle, ("RUST_LOG", "trace")]).end();
    let run = run.expect(0);
    trial.assert_same();
    assert!(!format!("{}{}", run.stderr, run.report).contains("p%40ss"), "{}", run.stderr);
    for head in proxy.take() {
        assert!(head.starts_with("CONNECT s3.internal.test:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains("proxy-authorization: basic bwu6cebzcw=="), "{head}");
    }
    // The proxy does not decide which certificates are trusted.
    let untrusted = trial.start_with(&options, &[("HTTPS_PROXY", &proxy.url())]).end().expect(1);
    assert!(untrusted.stderr.contains("UnknownIssuer"), "{}", untrusted.stderr);
    let (no_user, forbidden) = ("407 Proxy Authentication Required", "403 Forbidden");
    for (status, user, causes) in [
        (
            no_user,
            "",
            ["wants a user and a password: write HTTPS_PROXY as http://user:", "proxy authorization required"],
        ),
        (
            no_user,
            "me:hunter2@",
            ["refuses the user or the password in HTTPS_PROXY: correct them", "proxy authorization required"],
        ),
        (
            forbidden,
            "",
            [
                "refuses a connection to s3.internal.test: allow the host at the proxy, or add it to NO_PROXY",
                "tunnel error: unsuccessful",
            ],
        ),
    ] {
        let refusing = Proxy::start(Err(status));
        let url = format!("http://{user}127.0.0.1:{}", refusing.port);
        let refused = trial.start_with(&options, &[("HTTPS_PROXY", &url), bundle]).end().expect(1);
        let named = format!("the proxy 127.0.0.1:{} (HTTPS_PROXY) {}", refusing.port, causes[0]);
        assert!(refused.stderr.contains(&named) && refused.stderr.contains(causes[1]), "{}", refused.stderr);
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    }
}

#[test]
fn proxy_variables_mean_what_they_mean_to_the_aws_cli() {
    let trial = Trial::new();
    trial.write("a", "1");
    let proxy = Proxy::start(Err("403 Forbidden"));
    let url = proxy.url();
    let (with_port, with_other_port) = (format!("x, 127.0.0.1:{}", port_of(&trial.s3.url())), "127.0.0.1:1");
    let without_scheme = format!("127.0.0.1:{}", proxy.port);
    let direct: &[&[(&str, &str)]] = &[
        &[("HTTPS_PROXY", &url)],
        &[("ALL_PROXY", &url), ("all_proxy", &url)],
        &[("http_proxy", ""), ("HTTP_PROXY", &url)],
        &[("HTTP_PROXY", &url), ("NO_PROXY", "127.0.0.0/8")],
        &[("HTTP_PROXY", &url), ("NO_PROXY", &with_port)],
        &[("HTTP_PROXY", &url), ("no_proxy", "*")],
    ];
    let proxied: &[&[(&str, &str)]] = &[
        &[("HTTP_PROXY", &url)],
        &[("http_proxy", &without_scheme)],
        &[("HTTP_PROXY", &url), ("NO_PROXY", with_other_port)],
        &[("HTTP_PROXY", &url), ("no_proxy", ""), ("NO_PROXY", "*")],
    ];
    for (environments, is_proxied) in [(direct, false), (proxied, true)] {
        for environment in environments {
            trial.s3.clear_log();
            trial.start_with(&[], environment).end().expect(0);
            let (through, all) = (proxy.take(), trial.count(fake_aws::s3::Operations::all()));
            assert_eq!(through.len(), if is_proxied { all } else { 0 }, "{environment:?}: {through:?}");
        }
    }
    trial.assert_same();
    let socks = [("https_proxy", "socks5://me:hunter2@proxy.test")];
    let refused = trial.start_with(&[], &socks).end().expect(1);
    assert!(refused.stderr.contains("https_proxy is not the URL of an HTTP proxy"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
}

#[test]
fn a_proxy_that_responds_itself_is_named() {
    let trial = Trial::new();
    trial.write("a", "1");
    for status in ["407 Proxy Authentication Required", "403 Forbidden"] {
        let proxy = listen(move |mut client| {
            if read_head(&mut client).is_some() {
                let page = "<html>refused</html>";
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", page.len());
                client.write_all(format!("{head}{page}").as_bytes()).unwrap();
            }
        });
        let url = format!("http://me:hunter2@127.0.0.1:{proxy}");
        let refused = trial.start_with(&[], &[("http_proxy", &url)]).end().expect(1);
        let named = format!("the proxy 127.0.0.1:{proxy} (http_proxy)");
        assert!(refused.stderr.contains(&named), "{}", refused.stderr);
        let is_of_user = refused.stderr.contains("refuses the user or the password in http_proxy: correct them");
        assert_eq!(is_of_user, status.starts_with("407"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("hunter2") && !refused.stderr.contains("S3 denies"), "{}", refused.stderr);
    }
}

#[test]
fn credentials_bypass_the_proxy() {
    let trial = Trial::new();
    trial.write("a", "1");
    let proxy = Proxy::start(Err("403 Forbidden"));
    let endpoint = listen(|mut client| {
        if read_head(&mut client).is_none() {
            return;
        }
        let body =
            r#"{"AccessKeyId":"AKIDTASK","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        client.write_all(format!("{head}{body}").as_bytes()).unwrap();
    });
    let endpoint = format!("http://127.0.0.1:{endpoint}/creds");
    let (url, container) = (proxy.url(), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.as_str()));
    let environment = [&NO_CREDENTIALS[..], &[("HTTP_PROXY", &url), container]].concat();
    trial.start_with(&[], &environment).end().expect(0);
    trial.assert_same();
    let through = proxy.take();
    assert!(!through.is_empty() && !through.iter().any(|head| head.contains("/creds")), "{through:?}");
    let signed = trial.s3.requests(Operation::ListObjectsV2).remove(0).headers["authorization"].clone();
    assert!(signed.contains("AKIDTASK/"), "{signed}");
}

#[test]
fn datasync_is_reached_through_the_proxy() {
    let trial = Trial::new();
    trial.write("a", "1");
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    let proxy = Proxy::start(Err("403 Forbidden"));
    let (tree, task) = (trial.tree().display().to_string(), datasync.task_arn());
    let words = ["run", "--task-arn", task.as_str(), "--source", &tree, "--timeout", "5s", "--poll-interval", "100ms"];
    let environment = [("AWS_ENDPOINT_URL_DATASYNC", datasync.url()), ("HTTP_PROXY", proxy.url())];
    trial.run_words(&words, &environment.each_ref().map(|(name, value)| (*name, value.as_str())));
    let through = proxy.take();
    assert!(through.iter().any(|head| head.contains("FmrsService.StartTaskExecution")), "{through:?}");
}

/// A relay to S3 that passes on `bytes_per_second`, and nothing after the first `limit` bytes.
fn uplink(trial: &Trial, bytes_per_second: u32, limit: u64) -> (String, Arc<AtomicU64>) {
    let server = port_of(&trial.s3.url());
    let passed = Arc::new(AtomicU64::new(0));
    let (count, used_until) = (Arc::clone(&passed), Mutex::new(Instant::now()));
    let port = listen(move |client| {
        join(client, TcpStream::connect(("127.0.0.1", server)).unwrap(), |bytes| {
            let bytes = u32::try_from(bytes).unwrap();
            let end = {
                let mut used_until = used_until.lock().unwrap();
                *used_until = (*used_until).max(Instant::now()) + Duration::from_secs(1) * bytes / bytes_per_second;
                *used_until
            };
            thread::sleep(end.saturating_duration_since(Instant::now()));
            if count.fetch_add(u64::from(bytes), Ordering::Relaxed) > limit {
                thread::park();
            }
        });
    });
    (format!("http://127.0.0.1:{port}"), passed)
}

#[test]
fn a_slow_uplink_gets_each_byte_once() {
    let trial = Trial::new();
    // The kernel takes the whole body within seconds. The uplink needs longer for it than the idle timeout.
    trial.write("large", random(1 << 20));
    let (url, passed) = uplink(&trial, 50 << 10, u64::MAX);
    trial.start(&["--endpoint-url", &url]).end().expect(0);
    trial.assert_same();
    assert_eq!(trial.count(Operation::PutObject), 1);
    let passed = passed.load(Ordering::Relaxed);
    assert!(passed < MIB * 5 / 4, "{passed} bytes");
}

#[test]
fn an_uplink_that_stands_still_fails_within_the_idle_timeout() {
    let trial = Trial::new();
    trial.write("large", random(1 << 20));
    let (url, _) = uplink(&trial, 10 << 20, 256 << 10);
    let run = trial.start(&["--endpoint-url", &url, "--retries", "0"]).end();
    assert!([1, 3].contains(&run.code), "{}: {}", run.code, run.stderr);
    let said = format!("{}{}", run.stderr, run.report);
    assert!(said.contains("no byte moved for 15 s"), "{said}");
}

#[test]
fn a_wrong_signature_is_no_missing_permission() {
    for (operation, code) in [(Operation::ListObjectsV2, 1), (Operation::PutObject, 3)] {
        let trial = Trial::new();
        trial.write("a", "1");
        trial.s3.rule(Rule::on(operation).always().does(Fault::status(403, "SignatureDoesNotMatch")));
        let run = trial.start(&["--expected-bucket-owner", "111122223333"]).end().expect(code);
        let text = format!("{}{}", run.stderr, run.report);
        let advice =
            "check AWS_SECRET_ACCESS_KEY or the secret key of the profile, and whether a proxy changes requests";
        assert!(text.contains(advice), "{text}");
        assert!(!text.contains("allow s3:") && !text.contains("denies"), "{text}");
    }
}
