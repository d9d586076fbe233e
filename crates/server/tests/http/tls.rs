//! Encrypted connections. The certificate is one that the test made for itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Server, usual};
use tidemill_server::{Bound, ServeError, TlsFiles};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/http/fixtures/tls")
        .join(name)
}

fn files() -> TlsFiles {
    TlsFiles {
        certificates: file("certificate.pem"),
        key: file("key.pem"),
    }
}

fn client(server: &Server) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_file(file("certificate.pem")).unwrap();
    roots.add(own).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    StreamOwned::new(connection, stream)
}

#[test]
fn connections_can_be_encrypted() {
    let server = Server::with(|config, _| config.tls = Some(files()));
    // One that never agrees on anything, and one that speaks without: nobody else is harmed.
    let silent = TcpStream::connect(server.address).unwrap();
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain
        .write_all(b"GET /health HTTP/1.1\r\nhost: t\r\n\r\n")
        .unwrap();
    let mut reply = Vec::new();
    let _ = plain.read_to_end(&mut reply);
    assert!(!reply.starts_with(b"HTTP/"), "nothing is said in the open");

    let mut stream = client(&server);
    let body = r#"{"messages": [{"role": "user", "content": "hello!!"}], "stream": true, "chat_template_kwargs": {"enable_thinking": false}}"#;
    let length = body.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close";
    write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("data: [DONE]"), "{reply}");
    drop(silent);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let check = |certificates: PathBuf, key: PathBuf, says: &str| {
        let mut config = usual();
        config.tls = Some(TlsFiles { certificates, key });
        let offers = vec![crate::common::tiny::offer(&["tiny"])];
        let loader = crate::common::tiny::Tiny(Default::default(), Default::default());
        match Bound::new(offers, Box::new(loader), config) {
            Err(ServeError::Tls(error)) => assert!(error.to_string().contains(says), "{error}"),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("{says} was taken"),
        }
    };
    check(file("nowhere.pem"), file("key.pem"), "nowhere.pem");
    check(file("key.pem"), file("key.pem"), "no certificate");
    check(
        file("certificate.pem"),
        file("certificate.pem"),
        "certificate.pem",
    );
}
