//! async-openai against a server that is running: `cargo run -- BASE KEY`.
//! `crates/server/tests/clients/rust_client.py` starts the server.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::chat::{
    ChatCompletionMessageToolCall, ChatCompletionMessageToolCalls,
    ChatCompletionRequestAssistantMessageArgs, ChatCompletionRequestMessage,
    ChatCompletionRequestToolMessageArgs, ChatCompletionRequestUserMessageArgs, ChatCompletionTool,
    ChatCompletionTools, CreateChatCompletionRequest, CreateChatCompletionRequestArgs,
    FinishReason, FunctionObjectArgs, ReasoningEffort, ResponseFormat, ResponseFormatJsonSchema,
};
use futures::StreamExt;
use serde_json::{Value, json};

const GREETING: &str = "Hello! How can I help you?";
const QUESTION: &str = "What is the price of a cup?";

type Tested = Result<(), Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Tested {
    let mut words = std::env::args().skip(1);
    let (Some(base), Some(key)) = (words.next(), words.next()) else {
        return Err("two arguments are needed: the server's address and a key".into());
    };
    let config = OpenAIConfig::new()
        .with_api_base(format!("{base}/v1"))
        .with_api_key(key);
    let client = Client::with_config(config.clone());
    models(&client).await?;
    chat(&client).await?;
    streaming(&client).await?;
    tools(&client).await?;
    structured(&client).await?;
    let wrong = Client::with_config(config.with_api_key("wrong"));
    errors(&client, &wrong).await?;
    println!("ok async_openai");
    Ok(())
}

fn user(text: &str) -> Result<ChatCompletionRequestMessage, OpenAIError> {
    let message = ChatCompletionRequestUserMessageArgs::default()
        .content(text)
        .build()?;
    Ok(message.into())
}

fn request(messages: Vec<ChatCompletionRequestMessage>) -> CreateChatCompletionRequestArgs {
    let mut request = CreateChatCompletionRequestArgs::default();
    request
        .model("gpt-4o")
        .messages(messages)
        .reasoning_effort(ReasoningEffort::None);
    request
}

async fn models(client: &Client<OpenAIConfig>) -> Tested {
    let list = client.models().list().await?;
    assert!(!list.data[0].id.is_empty());
    Ok(())
}

async fn chat(client: &Client<OpenAIConfig>) -> Tested {
    let asked = request(vec![user("hello!!")?]).build()?;
    let whole = client.chat().create(asked).await?;
    assert_eq!(whole.choices[0].message.content.as_deref(), Some(GREETING));
    assert_eq!(whole.choices[0].finish_reason, Some(FinishReason::Stop));
    let usage = whole.usage.ok_or("no usage")?;
    assert_eq!(
        usage.total_tokens,
        usage.prompt_tokens + usage.completion_tokens
    );
    Ok(())
}

async fn streaming(client: &Client<OpenAIConfig>) -> Tested {
    let asked = request(vec![user("hello!!")?]).build()?;
    let mut pieces = client.chat().create_stream(asked).await?;
    let mut text = String::new();
    while let Some(piece) = pieces.next().await {
        for choice in piece?.choices {
            text += &choice.delta.content.unwrap_or_default();
        }
    }
    assert_eq!(text, GREETING);
    Ok(())
}

fn with_tool(
    messages: Vec<ChatCompletionRequestMessage>,
) -> Result<CreateChatCompletionRequest, OpenAIError> {
    let function = FunctionObjectArgs::default()
        .name("price_of")
        .description("Get the price of a thing.")
        .parameters(json!({
            "type": "object",
            "properties": {
                "thing": {"type": "string"},
                "color": {"type": "string", "enum": ["red", "green", "blue", "yellow", "white"]},
            },
            "required": ["thing"],
        }))
        .build()?;
    let tool = ChatCompletionTools::Function(ChatCompletionTool { function });
    request(messages).tools(vec![tool]).build()
}

async fn tools(client: &Client<OpenAIConfig>) -> Tested {
    let asked = with_tool(vec![user(QUESTION)?])?;
    let whole = client.chat().create(asked.clone()).await?;
    let calls = whole.choices[0]
        .message
        .tool_calls
        .clone()
        .ok_or("no call")?;
    let [ChatCompletionMessageToolCalls::Function(call)] = calls.as_slice() else {
        return Err(format!("not one call of a function: {calls:?}").into());
    };
    let ChatCompletionMessageToolCall { id, function } = call;
    assert_eq!(function.name, "price_of");
    let arguments: Value = serde_json::from_str(&function.arguments)?;
    assert_eq!(arguments["thing"], "cup");

    let mut streamed = String::new();
    let mut pieces = client.chat().create_stream(asked).await?;
    while let Some(piece) = pieces.next().await {
        for choice in piece?.choices {
            for call in choice.delta.tool_calls.unwrap_or_default() {
                streamed += &call.function.and_then(|f| f.arguments).unwrap_or_default();
            }
        }
    }
    assert_eq!(streamed, function.arguments);

    let assistant = ChatCompletionRequestAssistantMessageArgs::default()
        .tool_calls(calls.clone())
        .build()?;
    let result = ChatCompletionRequestToolMessageArgs::default()
        .tool_call_id(id.clone())
        .content("{\"price\": 24.5}")
        .build()?;
    let asked = with_tool(vec![user(QUESTION)?, assistant.into(), result.into()])?;
    let after = client.chat().create(asked).await?;
    let content = after.choices[0].message.content.clone().unwrap_or_default();
    assert!(content.contains("24.5"), "{content}");
    Ok(())
}

async fn structured(client: &Client<OpenAIConfig>) -> Tested {
    let schema = ResponseFormatJsonSchema {
        name: "person".to_owned(),
        description: None,
        schema: json!({
            "type": "object",
            "properties": {"age": {"type": "integer"}, "name": {"type": "string"}},
            "required": ["age", "name"],
            "additionalProperties": false,
        }),
        strict: Some(true),
    };
    let asked = request(vec![user("Dora turned 81 this year.")?])
        .response_format(ResponseFormat::JsonSchema {
            json_schema: schema,
        })
        .build()?;
    let whole = client.chat().create(asked).await?;
    let text = whole.choices[0].message.content.clone().unwrap_or_default();
    let person: Value = serde_json::from_str(&text)?;
    assert!(
        person["age"].is_i64() && person["name"].is_string(),
        "{text}"
    );
    Ok(())
}

async fn errors(client: &Client<OpenAIConfig>, wrong: &Client<OpenAIConfig>) -> Tested {
    let long = request(vec![user(&"word ".repeat(20_000))?]).build()?;
    let refused = client.chat().create(long).await;
    let Err(OpenAIError::ApiError(error)) = refused else {
        return Err(format!("too long a prompt was taken: {refused:?}").into());
    };
    let shown = format!("{error:?}");
    assert!(shown.contains("context_length_exceeded"), "{shown}");
    assert!(wrong.models().list().await.is_err());
    Ok(())
}
