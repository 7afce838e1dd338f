/** Conditions: the one public summary of state, a list keyed by type. */
import { z } from 'zod';
import { mapList } from './rule.ts';

const CONDITIONS_MAX = 16;

/** Longest message of a condition in the API's own type (metav1.Condition). */
const MESSAGE_LENGTH_MAX = 32768;

/** A timestamp as the API stores it. */
export const timestampSchema = z.string().max(64).meta({ format: 'date-time' });

/** One condition, as metav1.Condition defines it. */
export const conditionSchema = z.object({
  type: z
    .string()
    .min(1)
    .max(316)
    .regex(/^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$/)
    .describe('Type of the condition in CamelCase.'),
  status: z.enum(['True', 'False', 'Unknown']).describe('Status of the condition.'),
  observedGeneration: z
    .int()
    .min(0)
    .optional()
    .describe('metadata.generation that the condition was judged by.'),
  lastTransitionTime: timestampSchema.describe('When the status last changed.'),
  reason: z
    .string()
    .min(1)
    .max(1024)
    .regex(/^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/)
    .describe('Why, in one CamelCase word for programs.'),
  message: z.string().max(MESSAGE_LENGTH_MAX).describe('Why, and what to do about it, for people.'),
});

/** One condition. */
export type Condition = z.output<typeof conditionSchema>;

/** A status's conditions. */
export const conditionsSchema = mapList(conditionSchema, ['type'], { maxItems: CONDITIONS_MAX }).describe(
  'State of the object by aspect.',
);
