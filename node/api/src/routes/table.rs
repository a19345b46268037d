//! The handlers of the operations that `table.rs` defines, and their routes.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Answer, Api, Target};
use crate::{ApiError, ErrorBody, Service, body::JsonBody, stream, table::operations, types::*};

macro_rules! handlers {
    (
        plain { $(
            $(#[doc = $plain_doc:tt])*
            $plain_method:ident $plain_path:tt $plain:ident -> $plain_answer:ident, $plain_says:tt;
        )* }
        named { $(
            $(#[doc = $named_doc:tt])*
            $named_method:ident $named_path:tt $named:ident($param:tt, $param_says:tt)
                -> $named_answer:ident, $named_says:tt;
        )* }
        sent { $(
            $(#[doc = $sent_doc:tt])*
            $sent_method:ident $sent_path:tt $sent:ident($sent_request:ident)
                -> $sent_answer:ident, $sent_says:tt;
        )* }
        streamed { $(
            $(#[doc = $streamed_doc:tt])*
            $streamed_method:ident $streamed_path:tt
                $streamed:ident($streamed_request:ident, $streamed_progress:ident)
                -> $streamed_answer:ident, $streamed_says:tt;
        )* }
    ) => {
        $(
            $(#[doc = $plain_doc])*
            #[utoipa::path($plain_method, path = $plain_path, responses(
                (status = 200, description = $plain_says, body = $plain_answer),
                (status = "default", description = "The failure", body = ErrorBody),
            ))]
            async fn $plain<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
                Answer(api.service.$plain().await)
            }
        )*
        $(
            $(#[doc = $named_doc])*
            #[utoipa::path(
                $named_method,
                path = $named_path,
                params(($param = String, Path, format = "link", description = $param_says)),
                responses(
                    (status = 200, description = $named_says, body = $named_answer),
                    (status = "default", description = "The failure", body = ErrorBody),
                ),
            )]
            async fn $named<S: Service>(
                State(api): State<Api<S>>,
                Target(target): Target,
            ) -> impl IntoResponse {
                Answer(api.service.$named(target).await)
            }
        )*
        $(
            $(#[doc = $sent_doc])*
            #[utoipa::path(
                $sent_method,
                path = $sent_path,
                request_body = $sent_request,
                responses(
                    (status = 200, description = $sent_says, body = $sent_answer),
                    (status = "default", description = "The failure", body = ErrorBody),
                ),
            )]
            async fn $sent<S: Service>(
                State(api): State<Api<S>>,
                JsonBody(request): JsonBody<$sent_request>,
            ) -> impl IntoResponse {
                Answer(api.service.$sent(request).await)
            }
        )*
        $(
            $(#[doc = $streamed_doc])*
            #[utoipa::path(
                $streamed_method,
                path = $streamed_path,
                request_body = $streamed_request,
                responses(
                    (
                        status = 200,
                        description = $streamed_says,
                        content_type = "application/x-ndjson",
                        item_schema = StreamEvent<$streamed_progress, $streamed_answer>,
                    ),
                    (status = "default", description = "The failure", body = ErrorBody),
                ),
            )]
            async fn $streamed<S: Service>(
                State(api): State<Api<S>>,
                JsonBody(request): JsonBody<$streamed_request>,
            ) -> Result<Response, ApiError> {
                stream::respond(&api.operations, |progress, cancel| async move {
                    api.service.$streamed(request, progress, cancel).await
                })
            }
        )*

        /// The routes of all these operations.
        pub(super) fn table<S: Service>() -> OpenApiRouter<Api<S>> {
            OpenApiRouter::default()
                $(.routes(routes!($plain)))*
                $(.routes(routes!($named)))*
                $(.routes(routes!($sent)))*
                $(.routes(routes!($streamed)))*
        }
    };
}

operations!(handlers);
