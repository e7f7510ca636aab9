//! A running program with a configuration of its own, and what stands around it.

use crate::support::child::Child;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::{
    env, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};

/// A folder that is removed with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-program-{}-{number}", process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("the folder is writable");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An authority, which signs the certificates of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The chain and the key, in PEM, of a certificate with these names.
    pub(crate) fn sign(&self, names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("valid names");
        self.sign_params(params)
    }

    /// A list of revoked certificates, in PEM, that is empty.
    pub(crate) fn revoke_none(&self) -> String {
        self.revoke(&[])
    }

    /// A list of revoked certificates, in PEM, with these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        self.revoke_until(
            SystemTime::now() + Duration::from_secs(365 * 86_400),
            serials,
        )
    }

    /// The same, with the time of its next update.
    pub(crate) fn revoke_until(&self, next_update: SystemTime, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 2),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(&self.0).expect("a list");
        signed.pem().expect("it is DER")
    }

    pub(crate) fn sign_params(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// The program, with the arguments of a test.
pub(crate) fn program<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments);
    command
}

/// A running program.
pub(crate) struct Gate {
    pub(crate) child: Child,
    /// In the order of the configuration.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Gate {
    /// Runs the configuration, which has this many sockets on TCP.
    pub(crate) async fn run(configuration: &Path, sockets: usize) -> Self {
        let path = configuration.to_str().expect("it is UTF-8");
        Self::start(program(["run", "--config", path]), sockets).await
    }

    pub(crate) async fn start(command: Command, sockets: usize) -> Self {
        let mut child = Child::start(command).expect("the program starts");
        let mut addresses = Vec::new();
        while addresses.len() < sockets {
            let line = child.line().await;
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address: String = rest
                    .chars()
                    .take_while(|letter| letter.is_ascii_digit() || ".:[]abcdef".contains(*letter))
                    .collect();
                addresses.push(address.parse().expect("an address"));
            }
        }
        Self { child, addresses }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addresses[0])
            .await
            .expect("it listens")
    }
}

/// Ends a process that is no child of the test.
pub(crate) struct Stranger(pub(crate) u32);

impl Drop for Stranger {
    fn drop(&mut self) {
        let number = self.0.to_string();
        let _ = process::Command::new("kill")
            .args(["-s", "KILL", &number])
            .status();
    }
}

/// An address that is free, and in no other test's way.
///
/// Its port is below those that systems give to connections and to listeners that ask for any.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = process::id() as u16;
    loop {
        let number = base
            .wrapping_mul(16)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + number % 20_000;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return format!("127.0.0.1:{port}");
        }
    }
}

/// A backend that greets each client with its name, then sends back what it gets.
pub(crate) async fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(format!("{name}\n").as_bytes()).await?;
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await?;
                write.shutdown().await
            });
        }
    });
    address
}

/// Reads a line of a short text.
pub(crate) async fn line(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            byte => line.push(byte),
        }
    }
}
