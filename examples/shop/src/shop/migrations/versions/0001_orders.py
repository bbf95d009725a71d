"""orders"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("customer", sa.String(200), nullable=False),
        sa.Column("cents", sa.Integer(), nullable=False),
        sa.Column("placed", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        sa.Column("invoice", sa.String(), nullable=True),
        sa.Column("invoice_job", sa.String(40), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("orders")
