//! The face on D-Bus: calls with any body, to each method of each object.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use dlmgmt_proto::ZoneId;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};

use super::block_on;
use super::echo::Echo;
use crate::dbus::{LogFilter, LogLevel, Parts, methods_at, serve_connection};

/// Objects of every kind, and nothing.
pub const PATHS: [&str; 10] = [
    "/org/dlmgmt1",
    "/org/dlmgmt1/link",
    "/org/dlmgmt1/link/_1",
    "/org/dlmgmt1/link/_9",
    "/org/dlmgmt1/zone",
    "/org/dlmgmt1/zone/_0",
    "/org/dlmgmt1/zone/_9",
    "/org/freedesktop/LogControl1",
    "/",
    "/nothing",
];

/// How many calls one input makes.
const CALLS_MAX: usize = 16;

/// Serials of the calls begin here; the bus answers with others.
const FIRST_SERIAL: u32 = 1000;

/// Takes the bytes for calls: which object, which method, how, two bytes of the body's length, the
/// body. Of how, one bit lets the bytes of numbers be the other way round, one leaves out the name of
/// the interface, and one gives the body another signature.
///
/// Each is answered, once, whatever its body is.
pub fn dbus(bytes: &[u8]) {
    let calls = read_calls(bytes);
    block_on(async {
        let (bus, daemon) = UnixStream::pair().expect("sockets can be made");
        let guid = zbus::Guid::from_static_str("0123456789abcdef0123456789abcdef");
        let daemon = async move {
            let connection =
                Builder::authenticated_socket(Stream(daemon), guid.expect("it is one"))
                    .build()
                    .await;
            let served =
                serve_connection(connection.expect("the bus says hello"), &parts(), || {}).await;
            served.expect_err("the bus goes away");
        };
        tokio::join!(daemon, Bus(bus).play(calls));
    });
}

fn parts() -> Arc<Parts> {
    struct Fixed;
    impl LogFilter for Fixed {
        fn get(&self) -> String {
            "info".to_owned()
        }

        fn set(&self, _: &str) -> Result<(), String> {
            Ok(())
        }
    }
    let log_level = LogLevel { target: "console", filter: Arc::new(Fixed) };
    let zone_of: crate::dbus::ZoneOf = Arc::new(|_| Some(ZoneId::GLOBAL));
    Arc::new(Parts { service: Arc::new(Echo), zone_of, log_level })
}

/// The messages that the bytes stand for.
fn read_calls(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut calls = Vec::new();
    while let Some(([path, method, how, low, high], rest)) = bytes.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, rest) = rest.split_at(len);
        let serial = FIRST_SERIAL + u32::try_from(calls.len()).expect("there are few");
        calls.push(call(usize::from(*path), usize::from(*method), *how, serial, body));
        bytes = rest;
        if calls.len() == CALLS_MAX {
            break;
        }
    }
    calls
}

fn call(path: usize, method: usize, how: u8, serial: u32, body: &[u8]) -> Vec<u8> {
    let path = PATHS[path % PATHS.len()];
    let methods = methods_at(path);
    let none = ("org.dlmgmt1.Manager", "GetLink", "s".to_owned());
    let nth = |method: usize| match methods.len() {
        0 => none.clone(),
        len => methods[method % len].clone(),
    };
    let (interface, member, takes) = nth(method);
    let takes = if how & 4 == 0 { takes } else { nth(usize::from(how >> 3)).2 };
    let mut message = Writer { bytes: Vec::new(), is_big: how & 1 == 1 };
    message.begin(1, serial);
    message.text_field(1, 'o', path);
    if how & 2 == 0 {
        message.text_field(2, 's', interface);
    }
    message.text_field(3, 's', member);
    message.text_field(7, 's', ":1.9");
    if !takes.is_empty() {
        message.signature_field(&takes);
    }
    message.end(if takes.is_empty() { &[] } else { body })
}

/// Writes a message as the D-Bus specification has it.
struct Writer {
    bytes: Vec<u8>,
    is_big: bool,
}

impl Writer {
    fn begin(&mut self, kind: u8, serial: u32) {
        let order = if self.is_big { b'B' } else { b'l' };
        self.bytes.extend([order, kind, 0, 1]);
        self.number(0);
        self.number(serial);
        self.number(0);
    }

    fn encoded(&self, number: u32) -> [u8; 4] {
        if self.is_big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn number(&mut self, number: u32) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend(self.encoded(number));
    }

    fn text(&mut self, text: &str) {
        self.number(length(text.as_bytes()));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn field(&mut self, code: u8, signature: char) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.bytes.extend([code, 1, signature as u8, 0]);
    }

    fn text_field(&mut self, code: u8, signature: char, text: &str) {
        self.field(code, signature);
        self.text(text);
    }

    fn number_field(&mut self, code: u8, number: u32) {
        self.field(code, 'u');
        self.number(number);
    }

    fn signature_field(&mut self, signature: &str) {
        self.field(8, 'g');
        self.bytes.push(u8::try_from(signature.len()).expect("signatures are short"));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    fn end(mut self, body: &[u8]) -> Vec<u8> {
        let fields = self.encoded(length(&self.bytes[HEADER_LEN..]));
        self.bytes[12..HEADER_LEN].copy_from_slice(&fields);
        let len = self.encoded(length(body));
        self.bytes[4..8].copy_from_slice(&len);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        [&self.bytes, body].concat()
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("messages are short")
}

/// What comes before the fields: order, kind, flags, version, three numbers.
const HEADER_LEN: usize = 16;

/// A message of the daemon.
struct Told {
    kind: u8,
    serial: u32,
    member: String,
    answers: Option<u32>,
}

impl Told {
    fn read(header: &[u8; HEADER_LEN], fields: &[u8]) -> Self {
        let mut told =
            Self { kind: header[1], serial: at(header, 8), member: String::new(), answers: None };
        let mut here = 0;
        while here + 4 < fields.len() {
            let (code, signature) = (fields[here], fields[here + 2]);
            here += 4;
            let number = || at(fields, here);
            let len = match signature {
                b'u' => 4,
                b'g' => usize::from(fields[here]) + 2,
                _ => number() as usize + 5,
            };
            match code {
                3 => {
                    told.member = String::from_utf8_lossy(&fields[here + 4..here + len - 1]).into()
                }
                5 => told.answers = Some(number()),
                _ => {}
            }
            here = (here + len).next_multiple_of(8);
        }
        told
    }
}

fn at(bytes: &[u8], here: usize) -> u32 {
    u32::from_le_bytes(bytes[here..here + 4].try_into().expect("four bytes"))
}

/// The other side: a bus, and on it somebody who calls.
struct Bus(UnixStream);

impl Bus {
    async fn play(self, calls: Vec<Vec<u8>>) {
        let mut waiting: Vec<u32> = (FIRST_SERIAL..).take(calls.len()).collect();
        let mut calls = Some(calls.concat());
        while !waiting.is_empty() || calls.is_some() {
            let told = self.hear().await;
            match (told.kind, told.answers) {
                (1, _) => self.answer(&told).await,
                (2 | 3, Some(serial)) => {
                    let at = waiting.iter().position(|waiting| *waiting == serial);
                    waiting.swap_remove(at.expect("an answer to a call that was not answered"));
                }
                _ => {}
            }
            if told.member == "RequestName" {
                let calls = calls.take().unwrap_or_default();
                self.say(&calls).await;
            }
        }
    }

    async fn hear(&self) -> Told {
        let mut header = [0; HEADER_LEN];
        self.fill(&mut header).await;
        assert_eq!(header[0], b'l', "the daemon writes numbers as x86 does");
        let fields_len = at(&header, 12) as usize;
        let mut rest = vec![0; fields_len.next_multiple_of(8) + at(&header, 4) as usize];
        self.fill(&mut rest).await;
        Told::read(&header, &rest[..fields_len])
    }

    async fn fill(&self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            self.0.readable().await.expect("the socket is there");
            match self.0.try_read(buffer) {
                Ok(0) => panic!("the daemon closed the connection"),
                Ok(len) => buffer = &mut buffer[len..],
                Err(why) => assert_eq!(why.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    async fn say(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.0.writable().await.expect("the socket is there");
            match self.0.try_write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(why) => assert_eq!(why.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    /// What a bus says. The caller's connection is one of this process.
    async fn answer(&self, call: &Told) {
        let mut body = Writer { bytes: Vec::new(), is_big: false };
        let signature = match call.member.as_str() {
            "Hello" => {
                body.text(":1.1");
                "s"
            }
            "RequestName" => {
                body.number(1);
                "u"
            }
            "GetConnectionUnixProcessID" => {
                body.number(std::process::id());
                "u"
            }
            "GetConnectionCredentials" => {
                body.number(0);
                body.number(0);
                for (name, number) in [("UnixUserID", 0), ("ProcessID", std::process::id())] {
                    body.bytes.resize(body.bytes.len().next_multiple_of(8), 0);
                    body.text(name);
                    body.bytes.extend([1, b'u', 0]);
                    body.number(number);
                }
                let len = length(&body.bytes[8..]).to_le_bytes();
                body.bytes[..4].copy_from_slice(&len);
                "a{sv}"
            }
            _ => "",
        };
        let mut reply = Writer { bytes: Vec::new(), is_big: false };
        reply.begin(2, call.serial);
        reply.number_field(5, call.serial);
        reply.text_field(7, 's', "org.freedesktop.DBus");
        if !signature.is_empty() {
            reply.signature_field(signature);
        }
        self.say(&reply.end(&body.bytes)).await;
    }
}

/// A socket for zbus that takes descriptors and lets them go.
#[derive(Debug)]
struct Stream(UnixStream);

#[derive(Debug)]
struct Reader(OwnedReadHalf);

#[derive(Debug)]
struct Sender(OwnedWriteHalf);

impl Socket for Stream {
    type ReadHalf = Reader;
    type WriteHalf = Sender;

    fn split(self) -> Split<Reader, Sender> {
        let (read, write) = self.0.into_split();
        Split::new(Reader(read), Sender(write))
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(buffer) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                read => return Ok((read?, Vec::new())),
            }
        }
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}

#[async_trait]
impl WriteHalf for Sender {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        loop {
            self.0.writable().await?;
            match self.0.try_write(buffer) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}
