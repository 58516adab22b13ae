import pytest

import tiny
from tasc.corpus import Row, load_tokenizer, make_template
from tasc.errors import DataError, OptionError, TokenizerError

ROW = Row("wake me up", "done")
CHAT = Row("u2", "a2", tuple({"role": r, "content": c} for r, c in (("system", "s"), ("user", "u1"), ("user", "u2"))))
REAL = ("qwen2.5", "smollm2", "gpt2", "mistral-v3-spm")


def decoded(template, row):
    return template.tokenizer.decode(template.encode_prompts([row])[0])


def test_auto_is_chat_where_the_tokenizer_has_a_chat_template():
    assert make_template(tiny.byte_level_bpe()).name == "plain"
    assert make_template(tiny.byte_level_bpe(chat=True)).name == "chat"
    assert make_template(tiny.byte_level_bpe(chat=True), "plain").name == "plain"


@pytest.mark.parametrize("kind", tiny.TOKENIZERS)
def test_a_plain_prompt_is_bos_once_then_the_prompt_and_a_line_break(kind):
    tokenizer = tiny.TOKENIZERS[kind]()
    template = make_template(tokenizer)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    body = tokenizer("wake me up\n", add_special_tokens=False)["input_ids"]
    assert template.encode_prompts([ROW]) == [bos + body]
    assert template.encode_prompts([]) == []


def test_a_prompt_that_spells_bos_gets_no_second_one():
    template = make_template(tiny.byte_fallback_bpe())
    (ids,) = template.encode_prompts([Row("<s> hello", "x")])
    assert ids.count(1) == 1
    assert ids[0] == 1


def test_an_eos_that_the_tokenizer_adds_is_left_out_of_prompts():
    from tokenizers import processors

    tokenizer = tiny.byte_fallback_bpe()
    both = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.backend_tokenizer.post_processor = both
    template = make_template(tokenizer)
    assert template.prefix == (1,)
    assert template.encode_prompts([ROW])[0][-1] != 2
    assert 2 not in template.encode_completions(["done"])[0]


def test_a_chat_prompt_ends_where_the_answer_begins():
    template = make_template(tiny.byte_level_bpe(chat=True))
    assert decoded(template, ROW) == "<|im_start|>user\nwake me up<|im_end|>\n<|im_start|>assistant\n"
    assert decoded(template, CHAT) == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu1<|im_end|>\n<|im_start|>user\nu2<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("kind", ["ignore_merges_bpe", "byte_fallback_bpe", "unigram"])
def test_a_chat_template_that_writes_bos_is_not_given_a_second_one(kind):
    tokenizer = tiny.TOKENIZERS[kind](chat=True)
    template = make_template(tokenizer)
    (ids,) = template.encode_prompts([ROW])
    assert [place for place, i in enumerate(ids) if i == tokenizer.bos_token_id] == [0]


def test_plain_template_joins_the_turns_of_a_chat():
    assert decoded(make_template(tiny.byte_level_bpe()), CHAT) == "s\nu1\nu2\n"


@pytest.mark.parametrize("kind", tiny.TOKENIZERS)
@pytest.mark.parametrize("chat", [False, True])
def test_completions_have_no_special_tokens(kind, chat):
    tokenizer = tiny.TOKENIZERS[kind](chat=chat)
    template = make_template(tokenizer)
    texts = ["intent: alarm_set", "the"]
    encoded = template.encode_completions(texts)
    assert [tokenizer.decode(ids) for ids in encoded] == texts
    assert not {i for ids in encoded for i in ids} & set(tokenizer.all_special_ids)
    assert template.eos_id == tokenizer.eos_token_id


def test_a_template_from_a_file(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("Q: {{ messages[-1].content }} A:", encoding="utf-8")
    template = make_template(tiny.byte_level_bpe(chat=True), path)
    assert decoded(template, ROW) == "Q: wake me up A:"
    assert template.name == str(path)


def test_wrong_templates_are_refused(tmp_path):
    tokenizer = tiny.byte_level_bpe()
    with pytest.raises(OptionError, match="no chat template; pass --template plain"):
        make_template(tokenizer, "chat")
    with pytest.raises(OptionError, match="template 'fancy': expected auto, chat, plain"):
        make_template(tokenizer, "fancy")
    with pytest.raises(OptionError, match=r"none\.jinja: cannot be read"):
        make_template(tokenizer, tmp_path / "none.jinja")


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ raise_exception('no system turn') }}", "{{ messages[9].content.x }}"]
)
def test_a_template_that_fails_names_itself_and_the_reason(tmp_path, source):
    path = tmp_path / "bad.jinja"
    path.write_text(source)
    template = make_template(tiny.byte_level_bpe(), path)
    with pytest.raises(DataError, match=r"bad\.jinja refuses a row with the turns user \(.+\); change the row"):
        template.encode_prompts([ROW])


def test_a_tokenizer_without_eos_is_refused():
    tokenizer = tiny.byte_level_bpe()
    tokenizer.eos_token = None
    with pytest.raises(TokenizerError, match="no EOS token"):
        make_template(tokenizer)


@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers(shared, name):
    tokenizer = load_tokenizer(shared / "tokenizers" / name)
    template = make_template(tokenizer)
    assert template.name == ("chat" if name == "qwen2.5" else "plain")
    assert template.prefix == ((1,) if name == "mistral-v3-spm" else ())
    (ids,) = template.encode_prompts([ROW])
    if name == "qwen2.5":
        messages = [{"role": "user", "content": "wake me up"}]
        whole = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert ids == whole
    else:
        assert ids == tokenizer("wake me up\n")["input_ids"]
    text = "intent: alarm_set, slot fills: {time: nine am}"
    (completion,) = template.encode_completions([text])
    assert tokenizer.decode(completion) == text
    assert not set(completion) & set(tokenizer.all_special_ids)
