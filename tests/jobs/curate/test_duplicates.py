import time

from jobs.curate.duplicates import clusters, question


def test_what_is_nearly_the_same_question_is_one_cluster_whatever_its_marks_and_case() -> None:
    asked = [
        ("a", "When do the pieces from the kiln come out, please?"),
        ("b", "when do the pieces from the kiln come out please"),
        ("c", "When do the pieces from the kilns come out, please?"),
        ("d", "How much is a beginners' class on Saturdays?"),
    ]
    assert sorted(map(sorted, clusters(asked))) == [["a", "b", "c"], ["d"]]


def test_paraphrases_and_other_numbers_are_other_questions() -> None:
    asked = [
        ("a", "How many days until my fired bowl is ready?"),
        ("b", "When can I pick up what you fired for me?"),
        ("c", "Which pieces of mine are on the shelf of locker number 12 in the hall?"),
        ("d", "Which pieces of mine are on the shelf of locker number 17 in the hall?"),
    ]
    assert len(clusters(asked)) == 4


def test_clusters_join_by_name_and_along_chains() -> None:
    base = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    asked = [("x", base), ("y", base + " fifteen"), ("z", base + " fifteen sixteen"), ("x", "另一个问题")]
    assert sorted(map(sorted, clusters(asked))) == [["x", "y", "z"]]


def test_korean_questions_and_empty_ones_have_clusters_too() -> None:
    asked = [
        ("a", "가마에서 나온 작품은 며칠 뒤에 찾을 수 있나요?"),
        ("b", "가마에서 나온 작품은 며칠 뒤에 찾을 수 있나요"),
        ("c", ""),
        ("d", "?"),
    ]
    assert sorted(map(sorted, clusters(asked))) == [["a", "b"], ["c", "d"]]


def test_only_what_the_person_asked_is_compared() -> None:
    system = {"role": "system", "content": "You are Juniper, and you answer for the pottery workshop."}
    turns = [system, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    assert question([*turns, {"role": "user", "content": "Open?"}]) == "Hi\nOpen?"


def test_two_thousand_questions_take_seconds() -> None:
    words = ("kiln", "clay", "glaze", "wheel", "apron", "bowl", "class", "key", "rent", "tea", "shelf")
    asked = [
        (number, " ".join(words[number * step % 11] + str(number % (step + 7)) for step in range(3, 12)))
        for number in range(2000)
    ]
    started = time.process_time()
    clusters(asked)
    assert time.process_time() - started < 20
