"""Japanese."""

from __future__ import annotations

from collections.abc import Mapping

from external_agent.facts.issues import Kind

CONCERNS: Mapping[Kind, tuple[str, str]] = {
    Kind.EXPIRED: (
        "証明書は {at} に失効しました(有効期限切れ)。",
        "下の最後のエラーを解消してから実行してください: external-agent renew {certificate}",
    ),
    Kind.EXPIRING: (
        "{at} に有効期限が切れますが、新しい証明書がまだありません。",
        "更新されない理由を確認してください: external-agent status {certificate}",
    ),
    Kind.FAILING: (
        "発行が {count} 回続けて失敗しました: {error}",
        "示された原因を解消してください。次の試行は {next} です。すぐに試すには: "
        "external-agent renew {certificate}",
    ),
    Kind.REVOKED: (
        "最新の証明書は {at} に失効処理されました({reason})。",
        "次の証明書を待ってください。発行されない場合: external-agent renew {certificate}",
    ),
    Kind.ISSUING: ("最初の証明書を発行しています。", "対応は不要です。"),
    Kind.NO_PULLER: (
        "この証明書を取得する内部サーバーがありません。",
        "external-agent token {certificate} でトークンを発行し、内部サーバーで "
        "internal-puller enroll を実行してください。",
    ),
    Kind.AWAITING_CSR: (
        "鍵を作成する {host} からの CSR を待っています。",
        "{host} で確認してください: internal-puller status",
    ),
    Kind.SERVED_DIFFERS: (
        "{host} は発行済みのものと異なる証明書({leaf}…)を提示しています。",
        "{host} で internal-puller verify を実行し、サーバーが current/ のファイルを読んでいるか"
        "確認してください。",
    ),
    Kind.NOT_SERVED: (
        "{host} に新しい証明書を配置しましたが、サーバーはそれを提示していません: {error}。",
        "{host} で internal-puller status を実行すると、確認した場所と対処方法が表示されます。"
        "再確認は自動で行われます。",
    ),
    Kind.NOT_SEEN: (
        "{host} に新しい証明書を配置しましたが、提示されているかどうかは確認できません: {error}。",
        "{host} で internal-puller status を実行すると、確認した場所と対処方法が表示されます。"
        "再確認は自動で行われます。",
    ),
    Kind.ROLLED_BACK: (
        "{host} は新しい証明書を元に戻しました: {error}。{before}",
        "{host} で internal-puller status を確認し、サーバーを直してから internal-puller pull "
        "--retry を実行してください。",
    ),
    Kind.REFUSED: (
        "{host} は新しい証明書を拒否しました: {error}。{before}",
        "{host} で確認してください: internal-puller status",
    ),
    Kind.NOT_PULLED: (
        "{host} は {at} に発行された証明書をまだ取得していません。",
        "{host} で実行してください: internal-puller pull",
    ),
    Kind.NOT_INSTALLED: (
        "{host} は {at} の証明書を取得しましたが、まだ導入していません。",
        "{host} で確認してください: internal-puller status",
    ),
    Kind.PULLER_FAULT: (
        "{host} は、そのマシン自体の問題により新しい証明書を配置できません: {error}。",
        "{host} で実行してください: internal-puller doctor",
    ),
    Kind.NO_TARGET: (
        "{host} のターゲットは削除されました。このマシンではもう配置されません。",
        "今後も不要な場合は、次を実行してください: external-agent puller withdraw {host} "
        "{certificate}",
    ),
    Kind.PULLER_SILENT: (
        "{host} からの最後の連絡は {at} です。",
        "{host} で internal-puller status と systemctl status internal-puller.timer を"
        "確認してください。",
    ),
    Kind.PULLER_SUSPENDED: (
        "{host} は停止中です。登録トークンが別の相手からも提示されました。",
        "トークンを誰が持っていたか調べてから、external-agent puller confirm {puller} または "
        "revoke を実行してください。",
    ),
    Kind.TWO_MACHINES: (
        "{host} の鍵を 2 台のマシンが使っています: {one} と {other} が {at} から交互に"
        "接続しています。一方は他方の複製です。",
        "複製した側で internal-puller を停止し、状態ディレクトリ "
        "(/var/lib/split-horizon-relay/puller)を削除してから、専用の登録トークンで登録し直して"
        "ください: external-agent token {certificate}",
    ),
    Kind.RECORD_BAD: (
        "{name} の dns-persist-01 レコードが有効ではありません: {words}",
        "レコードを表示するには: external-agent dns-persist record {name}",
    ),
    Kind.RECORD_ENDS: (
        "{name} の dns-persist-01 レコードは {at} に終了します。",
        "新しいレコードを表示するには: external-agent dns-persist record {name} --until DATE",
    ),
}

BEFORE = "配置されているのは世代 {before} です。"

ERRORS: Mapping[str, str] = {
    "install/config-test-failed": "サーバーがこの証明書での設定を受け付けません",
    "install/served-mismatch": "配置後、サーバーの提示が以前より悪くなりました",
    "install/server-died": "再読み込みでサーバーが停止したため、起動し直しました",
    "install/rollback-failed": "元に戻しても、サーバーは以前の状態に戻っていません",
    "install/stage-failed": "ファイルを配置できませんでした",
    "install/reload-failed": "サーバーに再読み込みを指示できませんでした",
    "install/not-taken-up": "サーバーは以前の証明書を提示し続けています",
    "install/not-running": "サーバーが動作していません",
    "install/configuration-already-broken": "サーバーの設定が以前から壊れています",
    "install/cannot-be-seen": "このマシンからは確認できません",
    "install/another-server": "プローブ先が別のサーバーです",
    "install/seen-before": "プローブ先がこのサーバーだけではありません",
    "install/not-caused-by-certificate": "サーバーの状態が悪化しましたが、原因は証明書では"
    "ありません",
    "install/worse-and-kept": "サーバーの状態が悪化しましたが、以前の証明書は有効期限が"
    "切れたか、間近です",
}
