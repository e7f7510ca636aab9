//! A gRPC service that tells the test what it sees, and its client.

use futures_util::stream::{self, TryStreamExt};
use http::uri::PathAndQuery;
use portcullis::{
    ConnectionInfo, middleware::tls::rustls::pki_types::CertificateDer, tonic::TlsConnectInfo,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client,
    server::{Grpc, NamedService},
    transport::Channel,
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

/// What a handler saw of its connection.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) certificates: Option<Vec<Vec<u8>>>,
    /// Whether tonic's type for TLS is there.
    pub(crate) tls: bool,
    pub(crate) info: Option<ConnectionInfo>,
}

impl Observed {
    fn of<T>(request: &Request<T>) -> Self {
        let der = |certificate: &CertificateDer<'_>| certificate.to_vec();
        let certificates = request.peer_certs();
        Self {
            remote: request.remote_addr(),
            local: request.local_addr(),
            certificates: certificates.map(|chain| chain.iter().map(der).collect()),
            tls: request.extensions().get::<TlsConnectInfo>().is_some(),
            info: request.extensions().get().cloned(),
        }
    }
}

/// `Who` answers nothing, `Chat` what it is told; both tell what they see.
#[derive(Clone)]
pub(crate) struct Probe(mpsc::UnboundedSender<Observed>);

impl Probe {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Observed>) {
        let (send, observed) = mpsc::unbounded_channel();
        (Self(send), observed)
    }

    async fn who(self, request: Request<()>) -> Result<Response<()>, Status> {
        self.0.send(Observed::of(&request)).unwrap();
        Ok(Response::new(()))
    }

    async fn chat(
        self,
        request: Request<Streaming<String>>,
    ) -> Result<Response<Streaming<String>>, Status> {
        self.0.send(Observed::of(&request)).unwrap();
        Ok(Response::new(request.into_inner()))
    }
}

impl NamedService for Probe {
    const NAME: &'static str = "Probe";
}

impl Service<http::Request<Body>> for Probe {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/Probe/Who" => {
                    let who = service_fn(move |request| this.clone().who(request));
                    Grpc::new(ProstCodec::default()).unary(who, request).await
                }
                "/Probe/Chat" => {
                    let chat = service_fn(move |request| this.clone().chat(request));
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.streaming(chat, request).await
                }
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

/// A client of [`Probe`].
pub(crate) struct Client(client::Grpc<Channel>);

impl Client {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(client::Grpc::new(channel))
    }

    pub(crate) async fn who(&mut self) -> Result<(), Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/Probe/Who");
        let answer = self.0.unary(Request::new(()), path, ProstCodec::default());
        answer.await.map(Response::into_inner)
    }

    pub(crate) async fn chat(&mut self) -> Result<Chat, Status> {
        self.ready().await?;
        let (say, mut messages) = mpsc::channel(1);
        let messages = stream::poll_fn(move |cx| messages.poll_recv(cx));
        let path = PathAndQuery::from_static("/Probe/Chat");
        let codec = ProstCodec::default();
        let answers = self
            .0
            .streaming(Request::new(messages), path, codec)
            .await?;
        Ok(Chat {
            say,
            answers: answers.into_inner(),
        })
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// A stream of messages there and back.
pub(crate) struct Chat {
    say: mpsc::Sender<String>,
    answers: Streaming<String>,
}

impl Chat {
    /// Says `text` and waits for it to come back.
    pub(crate) async fn echoes(&mut self, text: &str) -> Result<bool, Status> {
        let sent = self.say.send(text.to_owned()).await;
        sent.map_err(|_| Status::unavailable("the stream is gone"))?;
        Ok(self.answers.try_next().await?.as_deref() == Some(text))
    }

    /// Ends the stream, and waits until the server has.
    pub(crate) async fn end(self) -> Result<(), Status> {
        let Self { say, mut answers } = self;
        drop(say);
        match answers.try_next().await? {
            None => Ok(()),
            Some(_) => Err(Status::internal("more than was sent")),
        }
    }
}
