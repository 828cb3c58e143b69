"""Which model is live, as the file for the services says it."""

from fraud_assets.core.models.live import LiveModel


def test_a_file_from_before_entries_were_noted_is_read():
    text = '{"model_version": 5, "row": 3, "hash": "h", "bento": "b:1", "folder": "f", "digests": {}}'
    assert LiveModel.from_json(text) == LiveModel(5, 3, "h", "b:1", "f", {})
