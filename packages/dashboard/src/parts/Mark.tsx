/** Two tracks side by side: ours and theirs. */
export const Mark = ({ size = 24 }: { size?: number }) => <img src="/mark.svg" width={size} height={size} alt="" />;
